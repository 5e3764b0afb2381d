//! Which tickets were used.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use super::{TicketFault, TicketId};
use crate::error::{Error, ErrorKind, Result};

/// The used tickets that have not expired, at most so many. Times are milliseconds.
pub(super) struct Spent {
    most: usize,
    expiries: HashMap<TicketId, u64>,
    by_expiry: BTreeSet<(u64, TicketId)>,
    /// The latest expiry of those that were forgotten. A ticket that expires no later may be one
    /// of them, should the clock be set back.
    forgotten: u64,
}

impl Spent {
    pub(super) fn new(most: usize) -> Self {
        Self { most, expiries: HashMap::new(), by_expiry: BTreeSet::new(), forgotten: 0 }
    }

    pub(super) fn add(&mut self, id: TicketId, expires: u64, now: u64) -> Result<()> {
        if self.expiries.contains_key(&id) {
            return Err(TicketFault::Used.into());
        }
        self.forget_expired(now);
        if expires <= now || expires <= self.forgotten {
            return Err(TicketFault::Expired.into());
        }
        if self.expiries.len() >= self.most {
            let words = "too many logins were ended in a short time";
            return Err(Error::new(ErrorKind::Capacity).about(words));
        }
        self.expiries.insert(id, expires);
        self.by_expiry.insert((expires, id));
        Ok(())
    }

    pub(super) fn remove(&mut self, id: &TicketId) {
        if let Some(expires) = self.expiries.remove(id) {
            self.by_expiry.remove(&(expires, *id));
        }
    }

    fn forget_expired(&mut self, now: u64) {
        while let Some(&(expires, id)) = self.by_expiry.first()
            && expires <= now
        {
            self.by_expiry.pop_first();
            self.expiries.remove(&id);
            self.forgotten = expires;
        }
    }
}

impl fmt::Debug for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spent").field("tickets", &self.expiries.len()).finish_non_exhaustive()
    }
}
