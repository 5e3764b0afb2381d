//! A provider without a server: a script gives its replies.

mod scripted_provider;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use url::Url;

use crate::provider::{ExchangeError, FailureClass, HttpSender, Issued, RevocationReach, Rotation};
use crate::token::Tokens;

/// A provider that gives the replies of its [`Script`], and issues tokens where the script has
/// none.
///
/// Tokens are `access-N` and `refresh-N`, where N counts all that were issued. Nothing is sent
/// anywhere.
///
/// ```
/// use std::time::Duration;
/// use session_warden::provider::FailureClass;
/// use session_warden::testing::{Reply, ScriptedProvider};
/// use session_warden::{ErrorKind, SessionKey, Supervisor};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), session_warden::Error> {
/// let provider = ScriptedProvider::new().lifetime(Duration::from_secs(60));
/// let script = provider.script();
/// let supervisor = Supervisor::builder().provider("scripted", provider).start().await?;
/// let sessions = supervisor.sessions::<ScriptedProvider>("scripted")?;
/// let session = sessions.session(SessionKey::new("tenant", "device")?);
///
/// let _ = session.establish(()).await?;
/// assert_eq!(session.permission_token().await?.expose_secret(), "access-1");
///
/// script.refresh(Reply::Fail(FailureClass::NotSent));
/// assert_eq!(session.refresh().await.unwrap_err().kind(), ErrorKind::RetryLater);
/// assert_eq!(script.refreshes(), 1);
/// # Ok(())
/// # }
/// ```
pub struct ScriptedProvider<G = (), C = Infallible, A = ()> {
    script: Script<C>,
    attributes: A,
    authority: Url,
    client: String,
    rotation: Rotation,
    revocation_reach: RevocationReach,
    ends_access_tokens: bool,
    lifetime: Option<Duration>,
    refresh_lifetime: Option<Duration>,
    renewal: Option<Renewal<G>>,
}

type Renewal<G> = Arc<dyn Fn() -> G + Send + Sync>;

impl ScriptedProvider {
    /// Issues tokens that live for an hour; takes `()` for a grant and knows no challenge.
    #[must_use]
    pub fn new() -> Self {
        Self::of(())
    }
}

impl Default for ScriptedProvider {
    fn default() -> Self {
        Self::new()
    }
}

impl<G, C, A> ScriptedProvider<G, C, A> {
    /// The same for any grant and challenge. Issues tokens with these attributes.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "the address is a constant")]
    #[expect(clippy::expect_used, reason = "the address is a constant")]
    pub fn of(attributes: A) -> Self {
        Self {
            script: Script::new(),
            attributes,
            authority: Url::parse("https://scripted.invalid/").expect("a good address"),
            client: "scripted".to_owned(),
            rotation: Rotation::Strict,
            revocation_reach: RevocationReach::Unknown,
            ends_access_tokens: false,
            lifetime: Some(Duration::from_secs(3600)),
            refresh_lifetime: None,
            renewal: None,
        }
    }

    /// The script, to be written and read while the provider runs.
    #[must_use]
    pub fn script(&self) -> Script<C> {
        self.script.clone()
    }

    /// Issues access tokens that live for so long.
    #[must_use]
    pub fn lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.lifetime = lifetime.into();
        self
    }

    /// Issues refresh tokens that live for so long.
    #[must_use]
    pub fn refresh_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.refresh_lifetime = lifetime.into();
        self
    }

    /// Declares this kind of rotation.
    #[must_use]
    pub fn rotation(mut self, rotation: Rotation) -> Self {
        self.rotation = rotation;
        self
    }

    /// Declares this reach of a revocation.
    #[must_use]
    pub fn revocation_reach(mut self, reach: RevocationReach) -> Self {
        self.revocation_reach = reach;
        self
    }

    /// Declares whether a refresh ends the former access tokens. Defaults to false.
    #[must_use]
    pub fn refresh_ends_access_tokens(mut self, ends: bool) -> Self {
        self.ends_access_tokens = ends;
        self
    }

    /// With this authority.
    #[must_use]
    pub fn authority(mut self, authority: Url) -> Self {
        self.authority = authority;
        self
    }

    /// With this client id.
    #[must_use]
    pub fn client(mut self, client: impl Into<String>) -> Self {
        self.client = client.into();
        self
    }

    /// Sessions obtain new tokens automatically with this grant.
    #[must_use]
    pub fn renewal(mut self, grant: impl Fn() -> G + Send + Sync + 'static) -> Self {
        self.renewal = Some(Arc::new(grant));
        self
    }
}

impl<G, C, A> fmt::Debug for ScriptedProvider<G, C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedProvider").field("script", &self.script).finish_non_exhaustive()
    }
}

/// The replies of a [`ScriptedProvider`], and the counts of its exchanges. Clones are one script.
pub struct Script<C = Infallible>(Arc<ScriptState<C>>);

struct ScriptState<C> {
    lines: Mutex<Lines<C>>,
    counts: watch::Sender<ScriptCounts>,
    released: watch::Sender<u64>,
}

struct Lines<C> {
    /// For whichever exchange comes first.
    next: VecDeque<Reply<C>>,
    establish: VecDeque<Reply<C>>,
    refresh: VecDeque<Reply<C>>,
    revoke: VecDeque<Reply<C>>,
}

#[derive(Clone, Copy, Default)]
struct ScriptCounts {
    establishes: u64,
    refreshes: u64,
    revocations: u64,
    issued: u64,
    held: u64,
    ended: u64,
    running: u64,
    most_at_once: u64,
}

/// One reply of a script.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reply<C = Infallible> {
    /// Issues tokens, as without a script.
    Issue,
    /// Issues tokens whose access token lives for so long.
    IssueFor(Option<Duration>),
    /// Issues this access token, that lives for so long.
    IssueAs(String, Option<Duration>),
    /// Issues tokens without a refresh token.
    IssueAccessOnly,
    /// Asks for a second factor.
    Challenge(C),
    /// Fails with this class.
    Fail(FailureClass),
    /// Fails with this class, and asks the client to wait for so long.
    FailFor(FailureClass, Duration),
    /// Waits for [`Script::release`], then issues tokens.
    Hold,
    /// Waits for [`Script::release`], then fails with this class.
    HoldThenFail(FailureClass),
    /// Never ends.
    Hang,
    /// Panics.
    Panic,
}

impl<C> Default for Lines<C> {
    fn default() -> Self {
        Self {
            next: VecDeque::new(),
            establish: VecDeque::new(),
            refresh: VecDeque::new(),
            revoke: VecDeque::new(),
        }
    }
}

impl<C> Script<C> {
    fn new() -> Self {
        Self(Arc::new(ScriptState {
            lines: Mutex::default(),
            counts: watch::Sender::default(),
            released: watch::Sender::default(),
        }))
    }

    /// Adds a reply for the next establish that has none yet.
    pub fn establish(&self, reply: Reply<C>) {
        self.0.lines.lock().establish.push_back(reply);
    }

    /// Adds a reply for the next refresh that has none yet.
    pub fn refresh(&self, reply: Reply<C>) {
        self.0.lines.lock().refresh.push_back(reply);
    }

    /// Adds a reply for the next revocation that has none yet.
    pub fn revoke(&self, reply: Reply<C>) {
        self.0.lines.lock().revoke.push_back(reply);
    }

    /// Adds a reply for the next establish or refresh that has none of its own.
    pub fn next(&self, reply: Reply<C>) {
        self.0.lines.lock().next.push_back(reply);
    }

    /// Removes the replies that were not used yet.
    pub fn clear(&self) {
        *self.0.lines.lock() = Lines::default();
    }

    /// How many grants were exchanged.
    #[must_use]
    pub fn establishes(&self) -> u64 {
        self.0.counts.borrow().establishes
    }

    /// How many refreshes were exchanged.
    #[must_use]
    pub fn refreshes(&self) -> u64 {
        self.0.counts.borrow().refreshes
    }

    /// How many revocations were exchanged.
    #[must_use]
    pub fn revocations(&self) -> u64 {
        self.0.counts.borrow().revocations
    }

    /// The most exchanges that ran at one time.
    #[must_use]
    pub fn most_at_once(&self) -> u64 {
        self.0.counts.borrow().most_at_once
    }

    /// How many exchanges ran to their end: neither hung nor dropped.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.0.counts.borrow().ended
    }

    /// Releases all exchanges that are held.
    pub fn release(&self) {
        self.0.released.send_modify(|turn| *turn += 1);
    }

    /// Waits until so many exchanges were held, released ones included.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time.
    pub async fn held(&self, count: u64) {
        // The sender is in this script, so this cannot fail.
        drop(self.0.counts.subscribe().wait_for(|counts| counts.held >= count).await);
    }

    fn run(&self) -> Running<C> {
        self.count(|counts| {
            counts.running += 1;
            counts.most_at_once = counts.most_at_once.max(counts.running);
        });
        Running(self.clone())
    }

    fn count(&self, count: impl FnOnce(&mut ScriptCounts)) {
        self.0.counts.send_modify(count);
    }

    fn line(&self, of: impl FnOnce(&mut Lines<C>) -> &mut VecDeque<Reply<C>>) -> Reply<C> {
        let mut lines = self.0.lines.lock();
        of(&mut lines).pop_front().or_else(|| lines.next.pop_front()).unwrap_or(Reply::Issue)
    }

    async fn hold(&self) {
        let mut released = self.0.released.subscribe();
        let turn = *released.borrow_and_update();
        self.count(|counts| counts.held += 1);
        drop(released.wait_for(|now| *now > turn).await);
    }
}

/// A running exchange. Its drop counts as its end too.
struct Running<C>(Script<C>);

impl<C> Drop for Running<C> {
    fn drop(&mut self) {
        self.0.count(|counts| counts.running -= 1);
    }
}

impl<C> Clone for Script<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C> fmt::Debug for Script<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script")
            .field("establishes", &self.establishes())
            .field("refreshes", &self.refreshes())
            .field("revocations", &self.revocations())
            .finish_non_exhaustive()
    }
}

impl<G, C, A> ScriptedProvider<G, C, A>
where
    C: Send + Sync + 'static,
    A: Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
    G: Send + 'static,
{
    #[expect(clippy::panic, reason = "the script says so")]
    async fn play(
        &self,
        sender: &HttpSender<'_>,
        reply: Reply<C>,
    ) -> Result<Issued<Self>, ExchangeError> {
        let _running = self.script.run();
        let played = match reply {
            Reply::Issue => Ok(Issued::Tokens(self.issue(sender, self.lifetime))),
            Reply::IssueFor(lifetime) => Ok(Issued::Tokens(self.issue(sender, lifetime))),
            Reply::IssueAs(access, lifetime) => {
                let tokens = self.issue(sender, None);
                let end = lifetime.map(|life| sender.expires_in(life.as_secs_f64()));
                Ok(Issued::Tokens(tokens.with_access_token(access, end)))
            }
            Reply::IssueAccessOnly => {
                let mut tokens = self.issue(sender, self.lifetime);
                tokens.refresh = None;
                Ok(Issued::Tokens(tokens))
            }
            Reply::Challenge(challenge) => Ok(Issued::Challenge(challenge)),
            Reply::Fail(class) => Err(ExchangeError::new(class)),
            Reply::FailFor(class, wait) => {
                Err(ExchangeError::new(class).with_retry_after(Some(wait)))
            }
            Reply::Hold => {
                self.script.hold().await;
                Ok(Issued::Tokens(self.issue(sender, self.lifetime)))
            }
            Reply::HoldThenFail(class) => {
                self.script.hold().await;
                Err(ExchangeError::new(class))
            }
            Reply::Hang => {
                self.script.count(|counts| counts.held += 1);
                std::future::pending().await
            }
            Reply::Panic => panic!("the script says so"),
        };
        self.script.count(|counts| counts.ended += 1);
        played
    }

    fn issue(&self, sender: &HttpSender<'_>, lifetime: Option<Duration>) -> Tokens<A> {
        let mut number = 0;
        self.script.count(|counts| {
            counts.issued += 1;
            number = counts.issued;
        });
        let end = |life: Option<Duration>| life.map(|life| sender.expires_in(life.as_secs_f64()));
        Tokens::new(self.attributes.clone())
            .with_access_token(format!("access-{number}"), end(lifetime))
            .with_refresh_token(format!("refresh-{number}"), end(self.refresh_lifetime))
    }
}
