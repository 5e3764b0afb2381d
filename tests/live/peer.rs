//! A server of another author as a child process of its test.

pub mod browser;

use std::process::Stdio;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use url::form_urlencoded;

/// How long a server may take to answer for the first time: the slowest needs 3 s where it was
/// tried.
const START: Duration = Duration::from_secs(30);

/// No test waits longer for anything: what takes milliseconds alone takes seconds on a machine that
/// builds beside it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server, which ends with this value. It counts requests and obeys at `/_ctl`.
pub struct Peer {
    url: String,
    pid: u32,
    http: Client,
    /// Killed when dropped.
    child: Child,
    /// Closes when this process ends in any way, and then the server ends too.
    _stdin: ChildStdin,
    /// Kept open, for the server would fail at its next line of output.
    _stdout: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    /// Runs the command and waits until the server prints `READY` and its URL.
    ///
    /// # Panics
    ///
    /// If the command cannot run, or the server is not ready within [`START`]. A missing server is
    /// a failure, never a test left out.
    pub async fn start(command: &mut Command) -> Self {
        command.env("STOP_WITH_STDIN", "1").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap_or_else(|error| {
            panic!("{command:?} does not start ({error}): tests/run installs it")
        });
        let pid = child.id().expect("the server has just started");
        let stdin = child.stdin.take().expect("stdin is piped");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let url = ready(&mut stdout).await;
        let http = Client::builder().no_proxy().build().expect("a plain client can be built");
        Self { url, pid, http, child, _stdin: stdin, _stdout: stdout }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn http(&self) -> &Client {
        &self.http
    }

    /// Kills the server with `SIGKILL`. Its connections are closed when this returns.
    pub async fn kill(&mut self) {
        in_time(self.child.kill()).await.expect("the server runs");
    }

    /// What the server counted since it started.
    pub async fn counts<C: DeserializeOwned>(&self) -> C {
        let answer = self.http.get(format!("{}/_ctl", self.url)).send().await;
        let body = answer.expect("the server answers").bytes().await.expect("its answer is whole");
        let mut body: Value = serde_json::from_slice(&body).expect("its answer is JSON");
        serde_json::from_value(body["counts"].take()).expect("its counters are these")
    }

    /// Waits until the server has counted what is wished.
    pub async fn until<C: DeserializeOwned>(&self, wished: impl Fn(&C) -> bool) -> C {
        in_time(async {
            loop {
                let counts = self.counts().await;
                if wished(&counts) {
                    return counts;
                }
            }
        })
        .await
    }

    /// Sets a fault, or a secret of a client, as the server's `README.md` says.
    pub async fn wish(&self, fault: Value) {
        let request = self.http.post(format!("{}/_ctl", self.url)).body(fault.to_string());
        let answer = request.send().await.expect("the server answers");
        assert_eq!(answer.status(), StatusCode::OK, "the server knows no fault {fault}");
    }

    /// One request of a client to the server past the library; an error if the answer was lost.
    pub async fn post(
        &self,
        path: &str,
        (id, secret): (&str, &str),
        form: &[(&str, &str)],
    ) -> reqwest::Result<(StatusCode, Value)> {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = self
            .http
            .post(format!("{}{path}", self.url))
            .basic_auth(id, Some(secret))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        let answer = request.send().await?;
        let (status, body) = (answer.status(), answer.bytes().await?);
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }
}

/// The output of `future`, unless it takes far too long.
pub async fn in_time<T>(future: impl Future<Output = T>) -> T {
    within(PATIENCE, future).await.unwrap_or_else(|| panic!("not done after {PATIENCE:?}"))
}

/// The output of `future`, if it comes within this time.
#[expect(clippy::disallowed_methods, reason = "a process outside has no clock of ours")]
pub async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, future).await.ok()
}

async fn ready(stdout: &mut Lines<BufReader<ChildStdout>>) -> String {
    let url = async {
        loop {
            let line = stdout.next_line().await.expect("the server writes text");
            let line = line.expect("the server ended before it was ready: see its stderr above");
            if let Some(url) = line.strip_prefix("READY ") {
                return url.to_owned();
            }
        }
    };
    within(START, url).await.unwrap_or_else(|| panic!("the server was not ready after {START:?}"))
}
