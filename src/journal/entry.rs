//! An entry of the journal: a commit as it is sent to the store, with its credentials encrypted.
//!
//! The head of an entry is JSON in clear, as the columns of a row are. It is authenticated with the
//! credentials, so an entry opens only as it was written.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::journal_fault::JournalFault;
use crate::key::{ProviderName, SessionId, SessionKey};
use crate::seal::{AeadContext, KeyRing, OpenFault};
use crate::store::{Attempt, ClaimId, Commit, Ends, Intent, Statement};
use crate::token::{Credentials, credentials_codec};

/// A commit, and the time from which its durations count.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) id: SessionId,
    pub(crate) commit: Commit,
    /// Wall time, because boot time means nothing after the machine was started again.
    pub(crate) at: SystemTime,
}

/// Why an entry cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EntryFault {
    /// Another version of this program wrote it.
    #[error("an entry of a form that this version does not read")]
    Malformed,
    /// The ring has no key of this number.
    #[error("key {0}, which encrypts an entry of the journal, is not in the key ring")]
    KeyMissing(u32),
    /// It was changed, or another key of the same number encrypted it.
    #[error("a wrong authentication tag")]
    Altered,
}

impl Entry {
    /// The bytes of the entry, with the credentials sealed.
    pub(crate) fn seal(&self, ring: &KeyRing) -> Result<Vec<u8>, JournalFault> {
        let head = serde_json::to_vec(&HeadJson::of(self)).map_err(|_| JournalFault::NotSealed)?;
        let plain =
            credentials_codec::encode(&self.commit.credentials).ok_or(JournalFault::TooLarge)?;
        let sealed = with_context(&self.id, &head, |context| ring.seal(context, plain));
        let sealed = sealed.map_err(|_| JournalFault::NotSealed)?;
        let length = u32::try_from(head.len()).map_err(|_| JournalFault::TooLarge)?;
        Ok([&length.to_be_bytes()[..], &head, &sealed].concat())
    }

    /// Opens what [`seal`](Self::seal) made.
    pub(crate) fn open(bytes: &[u8], ring: &KeyRing) -> Result<Self, EntryFault> {
        let (head, sealed) = split(bytes).ok_or(EntryFault::Malformed)?;
        let json: HeadJson = serde_json::from_slice(head).map_err(|_| EntryFault::Malformed)?;
        let id = json.id().ok_or(EntryFault::Malformed)?;
        let plain = with_context(&id, head, |context| ring.open(context, sealed));
        let plain = plain.map_err(|fault| match fault {
            OpenFault::UnknownKey(number) => EntryFault::KeyMissing(number),
            OpenFault::Altered => EntryFault::Altered,
            OpenFault::Malformed => EntryFault::Malformed,
        })?;
        let credentials = credentials_codec::decode(&plain).ok_or(EntryFault::Malformed)?;
        json.entry(id, credentials).ok_or(EntryFault::Malformed)
    }

    /// The statement to send at the wall time `now`.
    pub(crate) fn statement(&self, now: SystemTime) -> Statement {
        let passed = now.duration_since(self.at).unwrap_or_default();
        let ends = self.commit.ends.after(passed);
        Statement::Commit(Commit { ends, ..self.commit.clone() })
    }
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

fn with_context<T>(id: &SessionId, head: &[u8], with: impl FnOnce(&AeadContext<'_>) -> T) -> T {
    let tenant = id.key().tenant().as_str().as_bytes();
    with(&AeadContext { label: "journal", key_context: &[tenant], associated_data: &[head] })
}

/// The head of an entry. Durations are nanoseconds, and the time is nanoseconds since 1970.
#[derive(Serialize, Deserialize)]
struct HeadJson {
    provider: String,
    tenant: String,
    token_id: String,
    establish: bool,
    epoch: u64,
    base: u64,
    fence: u64,
    claim: u64,
    at: u64,
    access_in: Option<u64>,
    refresh_in: Option<u64>,
    due_in: Option<u64>,
    announce_in: Option<u64>,
    retry_in: Option<u64>,
}

impl HeadJson {
    fn of(entry: &Entry) -> Self {
        let Entry { id, commit: Commit { intent, epoch, attempt, ends, .. }, at } = entry;
        let left = |left: Option<Duration>| left.map(nanos);
        Self {
            provider: id.provider().as_str().to_owned(),
            tenant: id.key().tenant().as_str().to_owned(),
            token_id: id.key().token_id().to_owned(),
            establish: *intent == Intent::Establish,
            epoch: *epoch,
            base: attempt.base,
            fence: attempt.fence,
            claim: attempt.claim.0,
            at: nanos(at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()),
            access_in: left(ends.access_in),
            refresh_in: left(ends.refresh_in),
            due_in: left(ends.due_in),
            announce_in: left(ends.announce_in),
            retry_in: left(ends.retry_in),
        }
    }

    fn id(&self) -> Option<SessionId> {
        let key = SessionKey::new(&*self.tenant, &*self.token_id).ok()?;
        Some(SessionId::new(ProviderName::new(&*self.provider).ok()?, key))
    }

    fn entry(self, id: SessionId, credentials: Credentials) -> Option<Entry> {
        let left = |left: Option<u64>| left.map(Duration::from_nanos);
        let ends = Ends {
            access_in: left(self.access_in),
            refresh_in: left(self.refresh_in),
            due_in: left(self.due_in),
            announce_in: left(self.announce_in),
            retry_in: left(self.retry_in),
        };
        let intent = if self.establish { Intent::Establish } else { Intent::Refresh };
        let attempt = Attempt { base: self.base, fence: self.fence, claim: ClaimId(self.claim) };
        let (epoch, credentials) = (self.epoch, Arc::new(credentials));
        let commit = Commit { intent, epoch, attempt, credentials, ends };
        let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(self.at))?;
        Some(Entry { id, commit, at })
    }
}

/// Until the year 2554.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
