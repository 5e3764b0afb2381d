//! The files in the folder of a journal, one for each supervisor. A lock on a file says that its
//! supervisor is alive.
//!
//! Other users may be able to write to the folder. So a file is opened without blocking and without
//! following links, and counts only if it is a regular file of the process's own user.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::slot_format::{
    HEAD_BYTES, SLOT_HEAD_BYTES, SlotContent, file_head, owner_of, read_slot, slot_offset, slots_in,
};
use crate::policy::{JOURNAL_FILE_TRIES, JOURNAL_SLOT};
use crate::seal::random;
use crate::store::Owner;

/// The end of the name of a journal file, after 32 hexadecimal digits.
const SUFFIX: &str = ".journal";

/// A locked journal file.
pub(super) struct JournalFile {
    path: PathBuf,
    file: File,
}

impl JournalFile {
    /// Creates a file of its own in this folder and locks it.
    pub(super) fn create(folder: &Path) -> io::Result<Self> {
        create_folder(folder)?;
        for _ in 0..JOURNAL_FILE_TRIES {
            let name: [u8; 16] = random().map_err(io::Error::other)?;
            let path = folder.join(format!("{:032x}{SUFFIX}", u128::from_be_bytes(name)));
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let file = options.open(&path)?;
            // The link is looked at after the lock is taken. Before that, another process may have
            // taken the file for that of a dead one and removed it; what is written to it then
            // would be gone with this process.
            if is_locked_by_us(&file)? && is_linked(&file) {
                return Ok(Self { path, file });
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Opens a file of a dead process and locks it; `None` if its process lives, or if it is gone or
    /// no journal of this user.
    pub(super) fn take_over(path: &Path) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        #[cfg(unix)]
        {
            use rustix::fs::OFlags;
            let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
            std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags);
        }
        let file = match options.open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mine = is_own(&file)? && is_locked_by_us(&file)? && is_linked(&file);
        Ok(mine.then(|| Self { path: path.to_owned(), file }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the head. Durable when it returns, with the name of the file in its folder.
    pub(super) fn write_head(&mut self, owner: Owner) -> io::Result<()> {
        self.write_at(0, &file_head(owner))?;
        self.file.sync_all()?;
        // The folder too, and the one above: both may be new.
        #[cfg(unix)]
        for folder in self.path.ancestors().skip(1).take(2) {
            let here = folder.as_os_str().is_empty();
            File::open(if here { Path::new(".") } else { folder })?.sync_all()?;
        }
        Ok(())
    }

    /// The owner; `None` if the head was not written to its end. There are no entries in that case.
    pub(super) fn owner(&mut self) -> io::Result<Option<Owner>> {
        Ok(owner_of(&self.read_at(0, HEAD_BYTES)?))
    }

    /// Whether nothing was ever written.
    pub(super) fn is_blank(&mut self) -> io::Result<bool> {
        Ok(self.read_at(0, HEAD_BYTES)?.iter().all(|byte| *byte == 0))
    }

    pub(super) fn slots(&self) -> io::Result<u32> {
        Ok(slots_in(self.file.metadata()?.len()))
    }

    pub(super) fn read(&mut self, slot: u32) -> io::Result<SlotContent> {
        Ok(read_slot(&self.read_at(slot_offset(slot), JOURNAL_SLOT)?))
    }

    /// Fills a slot with zeros, so that the disk has room for an entry. Durable after [`sync`].
    ///
    /// [`sync`]: Self::sync
    pub(super) fn fill(&mut self, slot: u32) -> io::Result<()> {
        self.write_at(slot_offset(slot), &[0; JOURNAL_SLOT])
    }

    /// Writes the bytes of a slot. Durable after [`sync`](Self::sync).
    pub(super) fn write(&mut self, slot: u32, bytes: &[u8]) -> io::Result<()> {
        self.write_at(slot_offset(slot), bytes)
    }

    /// Frees a slot. A crash may undo this: its entry is then replayed once more, which the store
    /// recognises.
    pub(super) fn erase(&mut self, slot: u32) -> io::Result<()> {
        self.write_at(slot_offset(slot), &[0; SLOT_HEAD_BYTES])
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Removes the file, before the lock is released.
    pub(super) fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(offset))?;
        self.file.write_all(bytes)
    }

    /// Reads at most so many bytes: fewer at the end of the file.
    fn read_at(&mut self, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        self.file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        (&self.file).take(most as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Whether a file in the folder has the name of a journal file.
pub(super) fn is_journal(name: &OsStr) -> bool {
    let number = name.as_encoded_bytes().strip_suffix(SUFFIX.as_bytes());
    number.is_some_and(|number| number.len() == 32 && number.iter().all(u8::is_ascii_hexdigit))
}

/// For the process's own user only, because names of tenants and sessions are in clear in the files.
fn create_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Locks the file; false if another process, or another journal of this one, has the lock.
fn is_locked_by_us(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(fs::TryLockError::WouldBlock) => Ok(false),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(unix)]
fn is_linked(file: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    file.metadata().is_ok_and(|file| file.nlink() > 0)
}

#[cfg(not(unix))]
fn is_linked(_: &File) -> bool {
    true
}

#[cfg(unix)]
fn is_own(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let file = file.metadata()?;
    Ok(file.is_file() && file.uid() == rustix::process::geteuid().as_raw())
}

#[cfg(not(unix))]
fn is_own(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.is_file())
}
