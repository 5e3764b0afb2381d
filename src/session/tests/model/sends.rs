//! The refresh tokens that were sent, and whether they may be sent again.

use super::product::{BUDGET, HOLD};
use super::world::{Exchange, PendingLoad, Reply, Sent, Time, Tok, Work, World};
use crate::session::machine::{Run, Settled};
use crate::store::{ClaimId, Stored};

impl World {
    /// No refresh token is sent twice, unless the first send is over by rule.
    pub(super) fn inspect_send(&mut self, tok: Tok) {
        let former = self.sends.iter().filter(|sent| sent.tok == tok && !sent.revokes);
        let on_its_way = |claim| {
            self.requests.iter().any(|request| request.claim == claim && request.reply.is_none())
        };
        for sent in former {
            if on_its_way(sent.claim) {
                self.broken = Some(format!("{tok} is sent while it is on its way"));
            } else if !sent.is_over(self.now) {
                self.broken = Some(format!("{tok} is sent again too early"));
            }
        }
        if self.spent.contains(&tok) {
            self.broken = Some(format!("{tok} is sent although the store knows its end"));
        }
    }

    /// The store knows how this attempt ended.
    pub(super) fn spend(&mut self, claim: ClaimId) {
        if let Some(sent) = self.sends.iter().find(|sent| sent.claim == claim && !sent.revokes)
            && !self.spent.contains(&sent.tok)
        {
            self.spent.push(sent.tok);
            self.spent.sort_unstable();
        }
    }

    /// Forgets sends that are over for good, and those whose token no process has any more.
    pub(super) fn forget_old_sends(&mut self) {
        let mut sends = std::mem::take(&mut self.sends);
        sends.retain(|sent| {
            let mut requests = self.requests.iter();
            let open = requests.any(|r| r.claim == sent.claim && r.reply.is_none());
            (open || !sent.is_over(self.now)) && self.has(sent.tok)
        });
        let mut spent = std::mem::take(&mut self.spent);
        spent.retain(|tok| self.has(*tok));
        (self.sends, self.spent) = (sends, spent);
    }

    /// Whether a process could still send this token.
    fn has(&self, tok: Tok) -> bool {
        let of_record = |record: &crate::store::Record<Tok>| {
            record.credentials == Some(tok) || record.outbox == Some(tok)
        };
        let is = |credentials: Option<&std::sync::Arc<crate::token::Credentials>>| {
            credentials.is_some_and(|credentials| super::product::tok_of(credentials) == tok)
        };
        self.record.iter().any(of_record)
            || self.requests.iter().any(|request| request.reply == Some(Reply::Tokens(tok)))
            || self.processes.iter().any(|process| {
                let closed = process.settled().and_then(Settled::closed);
                let answer = match &process.state.running {
                    Some(Run::Establish { answer, .. } | Run::Refresh { answer }) => {
                        answer.as_ref()
                    }
                    Some(Run::Challenge { .. } | Run::Close | Run::Forget | Run::Revoke) | None => {
                        None
                    }
                };
                let sends = |x: &Exchange| x.held == Some(tok);
                let works = matches!(&process.work, Work::Exchange(x) if sends(x));
                let ends =
                    matches!(&process.work, Work::Close { outbox, .. } if *outbox == Some(tok));
                let found = |found: &Stored<Tok>| of_record(&found.record);
                let reads =
                    matches!(&process.load, PendingLoad::Found(_, Some(stored)) if found(stored));
                is(process.settled().and_then(Settled::credentials))
                    || is(closed.and_then(|closed| closed.outbox.as_ref()))
                    || is(answer.map(|held| &held.credentials))
                    || process.unsaved.as_ref().is_some_and(|unsaved| unsaved.credentials == tok)
                    || works
                    || ends
                    || reads
            })
    }
}

impl Sent {
    /// Whether the token may be sent again: the sender has been silent for its lease and the hold,
    /// or it noticed that the answer was lost and a queued request has had its time.
    pub(super) fn is_over(&self, now: Time) -> bool {
        let hold = if self.revokes { 0 } else { HOLD };
        let silent = now >= self.until + hold;
        silent || self.lost.is_some_and(|lost| now >= lost + 2 * BUDGET)
    }
}
