//! The layout of a journal file: a head of [`HEAD_BYTES`] that names the owner, then slots of
//! [`JOURNAL_SLOT`]. Numbers are big endian.
//!
//! A slot has a mark, the length of its entry, a checksum, and the entry. A free slot begins with
//! zeros. A crash in the middle of a write leaves a slot whose checksum is wrong.

use sha2::{Digest, Sha256};

use crate::policy::JOURNAL_SLOT;
use crate::store::Owner;

/// The bytes before the first slot: one page of the disk, so that no write of a slot touches it.
pub(super) const HEAD_BYTES: usize = 4096;

/// The bytes of a slot before its entry.
pub(super) const SLOT_HEAD_BYTES: usize = 64;

/// The most bytes of an entry.
pub(super) const ENTRY_BYTES: usize = JOURNAL_SLOT - SLOT_HEAD_BYTES;

const FILE_MARK: &[u8; 24] = b"session-warden journal 1";
const SLOT_MARK: &[u8; 8] = b"SWentry1";
const CHECKSUM_BYTES: usize = 32;

/// The content of a slot.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SlotContent {
    Free,
    Entry(Vec<u8>),
    /// Not written to its end, or damaged since.
    Torn,
}

/// The head of the file of this owner.
pub(super) fn file_head(owner: Owner) -> Vec<u8> {
    let mut head = [&FILE_MARK[..], &owner.0.to_be_bytes()].concat();
    head.resize(HEAD_BYTES, 0);
    head
}

/// The owner of a file; `None` if this is no head of a journal that this version reads.
pub(super) fn owner_of(head: &[u8]) -> Option<Owner> {
    let (owner, _) = head.strip_prefix(FILE_MARK)?.split_first_chunk()?;
    Some(Owner(u64::from_be_bytes(*owner)))
}

/// Where a slot begins in the file.
pub(super) fn slot_offset(slot: u32) -> u64 {
    HEAD_BYTES as u64 + u64::from(slot) * JOURNAL_SLOT as u64
}

/// How many slots a file of this length has.
pub(super) fn slots_in(length: u64) -> u32 {
    let slots = length.saturating_sub(HEAD_BYTES as u64).div_ceil(JOURNAL_SLOT as u64);
    u32::try_from(slots).unwrap_or(u32::MAX)
}

/// The bytes of a slot with this entry; `None` if it is too large.
pub(super) fn slot_with(entry: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(entry.len()).ok().filter(|_| entry.len() <= ENTRY_BYTES)?;
    let mut slot = Vec::with_capacity(SLOT_HEAD_BYTES + entry.len());
    slot.extend_from_slice(SLOT_MARK);
    slot.extend_from_slice(&length.to_be_bytes());
    slot.extend_from_slice(&Sha256::digest(entry));
    slot.resize(SLOT_HEAD_BYTES, 0);
    slot.extend_from_slice(entry);
    Some(slot)
}

/// Reads a slot, which may end early.
pub(super) fn read_slot(slot: &[u8]) -> SlotContent {
    let head = slot.get(..SLOT_HEAD_BYTES).unwrap_or(slot);
    if head.iter().all(|byte| *byte == 0) {
        return SlotContent::Free;
    }
    entry_of(slot).map_or(SlotContent::Torn, |entry| SlotContent::Entry(entry.to_vec()))
}

fn entry_of(slot: &[u8]) -> Option<&[u8]> {
    let (length, rest) = slot.strip_prefix(SLOT_MARK)?.split_first_chunk()?;
    let (checksum, _) = rest.split_first_chunk::<CHECKSUM_BYTES>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let entry = slot.get(SLOT_HEAD_BYTES..)?.get(..length)?;
    (Sha256::digest(entry)[..] == checksum[..]).then_some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_gives_back_its_entry() {
        for entry in [vec![], vec![7], vec![0; 100], vec![9; ENTRY_BYTES]] {
            let slot = slot_with(&entry).unwrap();
            assert!(slot.len() <= JOURNAL_SLOT);
            assert_eq!(read_slot(&slot), SlotContent::Entry(entry.clone()));
            // A slot is written over an older one, whose end may stay.
            let over = [slot, vec![1; 3]].concat();
            assert_eq!(read_slot(&over), SlotContent::Entry(entry));
        }
        assert!(slot_with(&vec![9; ENTRY_BYTES + 1]).is_none());
    }

    #[test]
    fn a_slot_that_was_written_in_part_is_torn_at_every_length() {
        let slot = slot_with(&[7; 300]).unwrap();
        for written in 1..slot.len() {
            let mut torn = slot[..written].to_vec();
            assert_eq!(read_slot(&torn), SlotContent::Torn, "{written}");
            // The rest is what stood there before.
            torn.resize(slot.len(), 0);
            assert_eq!(read_slot(&torn), SlotContent::Torn, "{written}");
        }
        for at in 0..slot.len() {
            let mut damaged = slot.clone();
            damaged[at] ^= 1;
            let unused = (44..SLOT_HEAD_BYTES).contains(&at);
            assert_eq!(read_slot(&damaged) == SlotContent::Torn, !unused, "{at}");
        }
    }

    #[test]
    fn a_slot_of_zeros_is_free_also_if_it_is_short() {
        for length in [0, 1, SLOT_HEAD_BYTES, JOURNAL_SLOT] {
            assert_eq!(read_slot(&vec![0; length]), SlotContent::Free);
        }
    }

    #[test]
    fn a_head_names_its_owner_and_other_files_have_no_owner() {
        let head = file_head(Owner(0xA11CE));
        assert_eq!((head.len(), owner_of(&head)), (HEAD_BYTES, Some(Owner(0xA11CE))));
        for other in [&b""[..], b"session-warden journal 2", FILE_MARK, &[0; HEAD_BYTES]] {
            assert_eq!(owner_of(other), None);
        }
    }

    #[test]
    fn a_file_that_ends_within_a_slot_has_that_slot() {
        let slot = JOURNAL_SLOT as u64;
        for (length, slots) in [(0, 0), (4096, 0), (4097, 1), (4096 + slot, 1), (4097 + slot, 2)] {
            assert_eq!(slots_in(length), slots, "{length}");
        }
        assert_eq!(slot_offset(2), 4096 + 2 * slot);
    }
}
