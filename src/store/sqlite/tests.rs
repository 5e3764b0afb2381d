//! What the tests of this store share.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::SqliteBuilder;

impl SqliteBuilder {
    /// As a version of this crate does whose newest form is this.
    pub(super) fn form(mut self, form: i64) -> Self {
        self.form = form;
        self
    }

    /// Waits for nobody.
    pub(super) fn at_once(mut self) -> Self {
        self.open_timeout = Duration::ZERO;
        self
    }
}

/// A folder for a test, gone with it.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        let name = format!("session-warden-{:016x}", fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
