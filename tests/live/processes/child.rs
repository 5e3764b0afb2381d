//! A process on a store, which carries out the orders from its standard input.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use rustix::process::{
    Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit,
};
use serde::Serialize;
use session_warden::event::{EventKind, Events};
use session_warden::journal::Journal;
use session_warden::policy::Policy;
use session_warden::provider::oauth2::{OAuth2, Password};
use session_warden::testing::{CrashPoint, CrashPoints, Fate};
use session_warden::transport::TransportConfig;
use session_warden::{Error, PermissionToken, Session, SessionKey, Supervisor};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::JoinSet;
use tokio_stream::StreamExt;

use super::database::until_it_is_there;
use super::orders::{
    Answer, Did, Handed, Operation, Order, Outcome, PROVIDER, Setup, TENANT, What, boot_now, hash,
    keys, name_of, policy,
};
use super::witness::Witness;
use crate::oidc_peer::{CLIENT_ID, CLIENT_SECRET};

/// The name of [`serve`] for the test program.
pub const NAME: &str = "processes::child::serve";

/// Holds the [`Setup`].
pub const SETUP: &str = "SESSION_WARDEN_REPLICA";

/// The prefix of each line with a reply: the test program writes lines of its own.
pub const MARK: char = '@';

/// The prefix of each line about the store.
pub const DEED: char = '#';

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process that the tests of processes start"]
async fn serve() {
    #[expect(clippy::disallowed_methods, reason = "how a parent tells its child")]
    let setup = std::env::var(SETUP).unwrap_or_else(|_| {
        panic!("{SETUP} is not set: this is no test but a process, which other tests start")
    });
    let setup: Setup = serde_json::from_str(&setup).unwrap();
    // A stopped process does not see that its standard input has ended.
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    if let Some(most) = setup.most_file_bytes {
        // Lower only the soft limit, so that the test can raise it again.
        let limit = Rlimit { current: Some(most), ..getrlimit(Resource::Fsize) };
        setrlimit(Resource::Fsize, limit).unwrap();
    }
    let process = Arc::new(Process::start(&setup).await);
    process.say(0, boot_now(), None, Outcome::Done);
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut running = JoinSet::new();
    let mut quit = 0;
    while let Some(line) = lines.next_line().await.unwrap() {
        let Order { id, what } = serde_json::from_str(&line).unwrap();
        let process = Arc::clone(&process);
        match what {
            What::Quit => {
                quit = id;
                break;
            }
            What::Do(operation, key) => drop(running.spawn(process.does(id, operation, key))),
            What::Finish { key, ticket } => drop(running.spawn(process.finishes(id, key, ticket))),
            What::Arm { point, fate } => {
                process.points.arm(point_of(&point), fate_of(&fate));
                process.say(id, boot_now(), None, Outcome::Done);
            }
        }
    }
    running.join_all().await;
    process.say(quit, boot_now(), None, Outcome::Took(process.store.took()));
}

struct Process {
    supervisor: Supervisor,
    store: Arc<Witness>,
    events: Mutex<Events>,
    points: CrashPoints,
    setup: Setup,
    /// The token that was handed out last, by key.
    handed: Mutex<HashMap<String, PermissionToken>>,
    api: reqwest::Client,
}

impl Process {
    async fn start(setup: &Setup) -> Self {
        let provider = OAuth2::discover(&setup.issuer, CLIENT_ID)
            .unwrap()
            .client_secret_basic(CLIENT_SECRET)
            .scope(&setup.scope)
            .rotation(setup.rotation.rotation());
        let provider = match setup.refresh_ends_access_tokens {
            true => provider.refresh_ends_access_tokens(),
            false => provider,
        };
        if let Some(logs) = &setup.logs {
            log_to(logs);
        }
        let points = CrashPoints::new();
        let store = Arc::new(Witness::new(setup.database.open().await));
        let start = async || {
            let builder = Supervisor::builder()
                .crash_points(&points)
                .policy(Policy { journal_hold: setup.journal_hold, ..policy(setup.waits) })
                .key_ring(keys())
                .store(Arc::clone(&store))
                .transport(TransportConfig::default().allow_loopback_http())
                .provider(PROVIDER, provider.clone());
            let journal = setup.journal.as_ref().map(|folder| Journal::open(folder).unwrap());
            match journal {
                Some(journal) => builder.journal(journal).start().await,
                None => builder.start().await,
            }
        };
        let supervisor = until_it_is_there(start).await;
        let api = reqwest::Client::builder().no_proxy().build().unwrap();
        let (events, setup) = (Mutex::new(supervisor.subscribe()), setup.clone());
        Self { supervisor, store, events, points, setup, handed: Mutex::default(), api }
    }

    async fn does(self: Arc<Self>, id: u64, operation: Operation, key: String) {
        let start = boot_now();
        let outcome =
            self.outcome(operation, &key).await.unwrap_or_else(|failed| Outcome::Failed {
                kind: format!("{:?}", failed.kind()),
                retry_after_ms: failed.retry_after().map(|wait| wait.as_millis() as u64),
                why: why(&failed),
            });
        self.say_owed();
        self.say(id, start, Some((operation, key)), outcome);
    }

    /// Without an operation: the rules of the history are about those.
    async fn finishes(self: Arc<Self>, id: u64, key: String, ticket: String) {
        let start = boot_now();
        let session = self.session(&key);
        let finished = session.finish_device_login(&ticket.parse().unwrap()).await;
        let outcome = match finished {
            Ok(_) => Outcome::Done,
            Err(failed) => Outcome::Failed {
                kind: format!("{:?}", failed.kind()),
                retry_after_ms: None,
                why: why(&failed),
            },
        };
        self.say(id, start, None, outcome);
    }

    /// Before a reply, whose credentials may be unsaved.
    fn say_owed(&self) {
        let mut events = self.events.lock().unwrap();
        while let Some(Some(event)) = events.next().now_or_never() {
            if let (EventKind::Unsaved, Some(id)) = (&event.kind, &event.session) {
                self.store.tell(boot_now(), name_of(id), Did::Owes);
            }
            assert!(!matches!(event.kind, EventKind::Missed(_)), "events are read in time");
        }
    }

    async fn outcome(&self, operation: Operation, key: &str) -> Result<Outcome, Error> {
        let session = self.session(key);
        let token = match operation {
            Operation::Establish => {
                // So that a server with many users shows the user of a token.
                let user = if key.contains('/') { key } else { "alice" };
                let _ = session.establish(Password::new(user, "ok")).await?;
                session.permission_token().await?
            }
            Operation::Token | Operation::Use => session.permission_token().await?,
            Operation::Refresh => session.refresh().await?,
            Operation::Invalidate => {
                let used = self.handed.lock().unwrap().get(key).cloned();
                if let Some(used) = &used {
                    session.invalidate(used);
                }
                session.permission_token().await?
            }
            Operation::Revoke => {
                let _ = session.revoke().await?;
                return Ok(Outcome::Done);
            }
            Operation::Status => {
                let status = session.status().await?;
                let (epoch, generation) = (status.epoch, status.generation);
                let state = format!("{:?}", status.state);
                return Ok(Outcome::Status { state, epoch, generation, saved: status.saved });
            }
        };
        let is_use = operation == Operation::Use;
        let works = if is_use { Some(self.works(&token).await) } else { None };
        let (epoch, generation) = (token.epoch(), token.generation());
        let hash = hash(token.expose_secret());
        self.handed.lock().unwrap().insert(key.to_owned(), token);
        Ok(Outcome::Token(Handed { epoch, generation, hash, works }))
    }

    async fn works(&self, token: &PermissionToken) -> bool {
        let request = self.api.get(&self.setup.api).bearer_auth(token.expose_secret());
        request.send().await.expect("the API answers").status().is_success()
    }

    fn session(&self, key: &str) -> Session<OAuth2> {
        let (tenant, id) = key.split_once('/').unwrap_or((TENANT, key));
        let key = SessionKey::new(tenant, id).unwrap();
        self.supervisor.sessions(PROVIDER).unwrap().session(key)
    }

    fn say(&self, order: u64, start: u64, of: Option<(Operation, String)>, outcome: Outcome) {
        let (pid, end) = (std::process::id(), boot_now());
        let (operation, key) = of.map_or((None, String::new()), |of| (Some(of.0), of.1));
        let answer = Answer { order, pid, start, end, operation, key, outcome };
        write(MARK, &answer);
    }
}

/// In one write, so that a killed process leaves no half of a line.
pub fn write(mark: char, line: &impl Serialize) {
    let line = format!("\n{mark}{}\n", serde_json::to_string(line).unwrap());
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(line.as_bytes()).unwrap();
    stdout.flush().unwrap();
}

/// The log of this process and of its dependencies.
fn log_to(folder: &Path) {
    let file = File::create(folder.join(format!("{}.log", std::process::id()))).unwrap();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(Mutex::new(file))
        .with_ansi(false)
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
}

/// The error with its causes.
fn why(failed: &dyn std::error::Error) -> String {
    match failed.source() {
        Some(cause) => format!("{failed}: {}", why(cause)),
        None => failed.to_string(),
    }
}

fn point_of(name: &str) -> CrashPoint {
    use CrashPoint::{BeforeClaim, Claimed, Committed, Journaled, Received, Replied, Sent};
    let all = [BeforeClaim, Claimed, Sent, Received, Journaled, Committed, Replied];
    all.into_iter().find(|point| format!("{point:?}") == name).unwrap()
}

fn fate_of(name: &str) -> Fate {
    [Fate::Kill, Fate::Stop].into_iter().find(|fate| format!("{fate:?}") == name).unwrap()
}
