//! Where the programs of the servers are, and as whom they run: they refuse to run as root.

use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of PostgreSQL's programs, if they are elsewhere than where they are searched.
const FOLDER_VARIABLE: &str = "POSTGRES_PROGRAMS";

/// Where Debian installs a folder for each major version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// One of PostgreSQL's programs, of the newest version if there are several.
///
/// # Panics
///
/// If it is not installed.
pub fn postgres(program: &str) -> PathBuf {
    let folder = env::var_os(FOLDER_VARIABLE).map(PathBuf::from);
    let path = folder.or_else(newest).or_else(configured).map(|folder| folder.join(program));
    path.filter(|path| path.exists())
        .unwrap_or_else(|| panic!("{program} is not there: tests/run installs it"))
}

/// A program of PATH, or one that only administrators have in theirs.
pub fn administrators(program: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders =
        env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let found = folders.find_map(|folder| Some(folder.join(program)).filter(|path| path.is_file()));
    found.unwrap_or_else(|| panic!("{program} is not there: tests/run installs it"))
}

fn newest() -> Option<PathBuf> {
    let versions = fs::read_dir(VERSIONS).ok()?.flatten().map(|entry| entry.path());
    let with_server = versions.filter(|version| version.join("bin/postgres").exists());
    let number = |version: &PathBuf| version.file_name()?.to_str()?.parse::<u32>().ok();
    with_server.max_by_key(number).map(|version| version.join("bin"))
}

fn configured() -> Option<PathBuf> {
    let answer = Command::new("pg_config").arg("--bindir").output().ok()?;
    Some(PathBuf::from(String::from_utf8(answer.stdout).ok()?.trim_end()))
}

/// Whose processes and files the servers are.
pub struct Account {
    /// User and group, if this process is root's.
    other: Option<(u32, u32)>,
}

impl Account {
    /// This process's own, or, for root, `postgres` or `nobody`.
    pub fn for_servers() -> Self {
        if !rustix::process::geteuid().is_root() {
            return Self { other: None };
        }
        let accounts = fs::read_to_string("/etc/passwd").expect("the system has accounts");
        let other = ["postgres", "nobody"].iter().find_map(|name| ids(&accounts, name));
        Self { other: Some(other.expect("the system has the account nobody")) }
    }

    /// A new folder, which only this account and root can enter. Nothing deletes it yet.
    pub fn new_folder(&self) -> PathBuf {
        let folder = tempfile::Builder::new().prefix("postgres-").tempdir();
        let folder = folder.expect("the system has temporary folders").keep();
        self.give(&folder);
        folder
    }

    /// Writes a file that only this account and root can read.
    pub fn write(&self, path: &Path, text: &str) {
        fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("the file is ours");
        self.give(path);
    }

    /// A command of this account, with nothing of this process's environment but the path.
    pub fn command(&self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", env::var_os("PATH").unwrap_or_default());
        command.current_dir(folder);
        if let Some((user, group)) = self.other {
            // Of root's groups, `Command` keeps none.
            command.uid(user).gid(group);
        }
        command
    }

    fn give(&self, path: &Path) {
        if let Some((user, group)) = self.other {
            chown(path, Some(user), Some(group)).expect("root gives its files away");
        }
    }
}

/// The numbers of a user and of its group, from the text of `/etc/passwd`.
fn ids(accounts: &str, name: &str) -> Option<(u32, u32)> {
    let mut accounts = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let account = accounts.find(|fields| fields.first() == Some(&name))?;
    Some((account.get(2)?.parse().ok()?, account.get(3)?.parse().ok()?))
}
