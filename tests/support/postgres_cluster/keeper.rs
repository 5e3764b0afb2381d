//! A process that runs a server, and outlives the test for as long as it needs to end it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;

use super::programs::Account;

/// Obeys lines. `run` runs the command behind it, and answers its exit status. `start` starts the
/// server, and answers its process id. The name of a signal sends it, and answers when the server
/// has ended. The lines end when the process of the test closes its side, or ends in any way: then
/// the server ends, and its folder is deleted.
///
/// After `KILL`, processes that the server had started may go on for a moment. PostgreSQL's work in
/// the folder with its data, which tells them from those of others.
const KEEPER: &str = r#"
folder=$1 last_signal=$2
shift 2
server=
end() {
    [ -n "$server" ] || return 0
    kill -s "$1" "$server" 2>/dev/null
    wait "$server" 2>/dev/null
    server=
}
kill_children() {
    while :; do
        children=
        for process in /proc/[0-9]*; do
            if [ "$process/cwd" -ef "$folder/data" ]; then
                children="$children ${process#/proc/}"
            fi
        done
        [ -n "$children" ] || return 0
        kill -s KILL $children 2>/dev/null
        sleep 0.01
    done
}
while read -r order rest; do
    case $order in
    run)
        eval "$rest" </dev/null >>"$folder/log" 2>&1
        echo "$?"
        ;;
    start)
        "$@" </dev/null >>"$folder/log" 2>&1 &
        server=$!
        echo "$server"
        ;;
    *)
        end "$order"
        [ "$order" != KILL ] || kill_children
        echo ended
        ;;
    esac
done
end "$last_signal"
rm -rf "$folder"
"#;

/// The keeper of a server and of its folder. Both end with this value.
pub struct Keeper {
    folder: PathBuf,
    pid: Mutex<Option<u32>>,
    shell: Arc<Mutex<Shell>>,
}

struct Shell {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Keeper {
    /// A keeper of this folder and of a server that is not started yet, which this signal ends.
    pub fn new(account: &Account, folder: PathBuf, server: &[String], last_signal: &str) -> Self {
        let mut command = account.command(Path::new("/bin/sh"), &folder);
        command.args(["-c", KEEPER, "keeper"]).arg(&folder).arg(last_signal).args(server);
        // An interrupt at a terminal ends the test, and only with that the keeper.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let shell = Arc::new(Mutex::new(Shell { child, orders, answers }));
        Self { folder, pid: Mutex::new(None), shell }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the server has written since it was first started.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_else(|error| error.to_string())
    }

    /// Runs a command that prepares the server.
    ///
    /// # Panics
    ///
    /// With all output, if it fails.
    pub async fn run(&self, command: &[String]) {
        let quoted: Vec<_> = command.iter().map(|part| format!("'{part}'")).collect();
        let status = self.order(format!("run {}", quoted.join(" "))).await;
        assert_eq!(status, "0", "{command:?}: {}", self.log());
    }

    /// Starts the server, which has ended or never ran.
    pub async fn start(&self) {
        assert!(self.pid.lock().is_none(), "the server runs already");
        let answer = self.order("start".to_owned()).await;
        *self.pid.lock() = Some(answer.parse().expect("the keeper answers a process id"));
    }

    /// Sends the signal and waits until the server has ended.
    pub async fn end(&self, signal: &str) {
        assert_eq!(self.order(signal.to_owned()).await, "ended");
        *self.pid.lock() = None;
    }

    /// Whether the server has ended by itself since it was last started.
    pub fn has_ended(&self) -> bool {
        let Some(pid) = *self.pid.lock() else { return true };
        // The keeper has not waited for it yet, so that its number is not given to another.
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
    }

    async fn order(&self, order: String) -> String {
        let shell = Arc::clone(&self.shell);
        let answer = tokio::task::spawn_blocking(move || shell.lock().order(&order));
        answer.await.expect("the keeper obeys")
    }
}

impl Shell {
    fn order(&mut self, order: &str) -> String {
        let orders = self.orders.as_mut().expect("the keeper takes orders until it is dropped");
        writeln!(orders, "{order}").expect("the keeper reads");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the keeper writes text");
        answer.trim_end().to_owned()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(self.orders.take());
        drop(self.child.wait());
    }
}
