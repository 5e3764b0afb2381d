//! A provider without a server: a test writes its replies in a script.

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

/// A provider whose replies a test writes into its [`Script`]. If the script has no reply, the
/// provider issues tokens.
///
/// The tokens are `access-N` and `refresh-N`, where N counts from 1. The provider sends no
/// requests.
///
/// ```
/// use std::time::Duration;
/// use session_warden::provider::FailureClass;
/// use session_warden::testing::{Reply, Script, ScriptedProvider};
/// use session_warden::{ErrorKind, SessionKey, Supervisor};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), session_warden::Error> {
/// let provider = ScriptedProvider::new().lifetime(Duration::from_secs(60));
/// let script: Script = provider.script();
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
    /// Makes a provider that issues tokens with a lifetime of an hour. Its grant is `()`, and it
    /// asks for no second factor.
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
    /// Makes a provider for any type of grant and challenge. It issues tokens with these attributes
    /// and a lifetime of an hour.
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

    /// The script, which a test writes and reads while the provider is in use.
    #[must_use]
    pub fn script(&self) -> Script<C> {
        self.script.clone()
    }

    /// Sets the lifetime of access tokens; `None` for tokens without an expiry.
    #[must_use]
    pub fn lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.lifetime = lifetime.into();
        self
    }

    /// Sets the lifetime of refresh tokens; `None` for tokens without an expiry.
    #[must_use]
    pub fn refresh_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.refresh_lifetime = lifetime.into();
        self
    }

    /// Sets the rotation that the provider declares. Defaults to [`Rotation::Strict`].
    #[must_use]
    pub fn rotation(mut self, rotation: Rotation) -> Self {
        self.rotation = rotation;
        self
    }

    /// Sets the reach of a revocation that the provider declares. Defaults to
    /// [`RevocationReach::Unknown`].
    #[must_use]
    pub fn revocation_reach(mut self, reach: RevocationReach) -> Self {
        self.revocation_reach = reach;
        self
    }

    /// Sets whether the provider declares that a refresh ends the former access tokens. Defaults to
    /// false.
    #[must_use]
    pub fn refresh_ends_access_tokens(mut self, ends: bool) -> Self {
        self.ends_access_tokens = ends;
        self
    }

    /// Sets the provider's authority. Defaults to `https://scripted.invalid/`.
    #[must_use]
    pub fn authority(mut self, authority: Url) -> Self {
        self.authority = authority;
        self
    }

    /// Sets the client's id. Defaults to `scripted`.
    #[must_use]
    pub fn client(mut self, client: impl Into<String>) -> Self {
        self.client = client.into();
        self
    }

    /// Lets each session obtain new tokens automatically with this grant.
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

/// The replies of a [`ScriptedProvider`], and the counts of its exchanges. All clones share one
/// script. See the example of [`ScriptedProvider`].
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

/// One reply of a [`Script`]. See the example of [`ScriptedProvider`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Reply<C = Infallible> {
    /// Issues tokens, as if the script had no reply.
    Issue,
    /// Issues tokens whose access token has this lifetime; `None` for no expiry.
    IssueFor(Option<Duration>),
    /// Issues this access token with this lifetime; `None` for no expiry.
    IssueAs(String, Option<Duration>),
    /// Issues tokens without a refresh token.
    IssueAccessOnly,
    /// Asks for a second factor.
    Challenge(C),
    /// Fails with this class.
    Fail(FailureClass),
    /// Fails with this class, and asks the client to wait for this time.
    FailFor(FailureClass, Duration),
    /// Waits for [`Script::release`], then issues tokens.
    Hold,
    /// Waits for [`Script::release`], then fails with this class.
    HoldThenFail(FailureClass),
    /// Never completes.
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

    /// Adds a reply for a grant. Grants get these replies in the order in which you add them.
    pub fn establish(&self, reply: Reply<C>) {
        self.0.lines.lock().establish.push_back(reply);
    }

    /// Adds a reply for a refresh. Refreshes get these replies in the order in which you add them.
    pub fn refresh(&self, reply: Reply<C>) {
        self.0.lines.lock().refresh.push_back(reply);
    }

    /// Adds a reply for a revocation. Revocations get these replies in the order in which you add
    /// them.
    pub fn revoke(&self, reply: Reply<C>) {
        self.0.lines.lock().revoke.push_back(reply);
    }

    /// Adds a reply for a grant or a refresh. It is used if there is no reply from
    /// [`establish`](Self::establish) or [`refresh`](Self::refresh).
    pub fn next(&self, reply: Reply<C>) {
        self.0.lines.lock().next.push_back(reply);
    }

    /// Removes all replies that have not been used.
    pub fn clear(&self) {
        *self.0.lines.lock() = Lines::default();
    }

    /// The number of exchanges of a grant so far.
    #[must_use]
    pub fn establishes(&self) -> u64 {
        self.0.counts.borrow().establishes
    }

    /// The number of refreshes so far.
    #[must_use]
    pub fn refreshes(&self) -> u64 {
        self.0.counts.borrow().refreshes
    }

    /// The number of revocations so far.
    #[must_use]
    pub fn revocations(&self) -> u64 {
        self.0.counts.borrow().revocations
    }

    /// The largest number of exchanges that ran at the same time.
    #[must_use]
    pub fn most_at_once(&self) -> u64 {
        self.0.counts.borrow().most_at_once
    }

    /// The number of exchanges that completed. Exchanges that hang or were dropped do not count.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.0.counts.borrow().ended
    }

    /// Continues all exchanges that are held.
    pub fn release(&self) {
        self.0.released.send_modify(|turn| *turn += 1);
    }

    /// Waits until `count` exchanges have been held, including those that were released since.
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
