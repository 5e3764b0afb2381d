//! The table, and the check of the guarantees.

use anyhow::ensure;
use indicatif::HumanCount;
use session_warden::supervisor::{ShutdownReport, Snapshot};
use session_warden::testing::Counts;

use crate::measure::{Calls, Killed, Latencies, refreshes};

pub(crate) struct Outcome {
    pub(crate) calls: Calls,
    pub(crate) killed: Killed,
    pub(crate) lost: Vec<String>,
    pub(crate) shutdown: ShutdownReport,
    pub(crate) supervised: Snapshot,
    /// Counts that only this example's own server has.
    pub(crate) server: Option<Counts>,
    pub(crate) rss_per_session: Option<u64>,
}

/// A line of the table, and whether it keeps the guarantee.
type Row = (&'static str, String, bool);

impl Outcome {
    /// Prints the table. Fails with the lines that break a guarantee.
    pub(crate) fn report(&self) -> anyhow::Result<()> {
        let rows = [self.of_callers(), self.of_server(), self.of_actors()].concat();
        rows.iter().for_each(|(name, value, _)| println!("{name:<42} {value}"));
        let broken: Vec<_> = rows.into_iter().filter(|(.., kept)| !kept).collect();
        let broken: Vec<_> = broken.iter().map(|row| format!("{}: {}", row.0, row.1)).collect();
        ensure!(broken.is_empty(), "promises were broken: {}", broken.join("; "));
        Ok(())
    }

    fn of_callers(&self) -> Vec<Row> {
        let Calls { served, expired, errors, fresh, waiting } = &self.calls;
        let all = self.supervised.sessions;
        let lost = format!("{} of {all} {}", self.lost.len(), self.lost.join(", "));
        vec![
            ("tokens served", count(*served), *served > 0),
            ("tokens that had expired", count(*expired), *expired == 0),
            ("errors that callers got", of_kinds(errors), errors.is_empty()),
            ("sessions lost", lost, self.lost.is_empty()),
            ("fresh calls, p50 and p99", latencies(fresh), true),
            ("waiting calls, p50 and p99", latencies(waiting), true),
        ]
    }

    fn of_server(&self) -> Vec<Row> {
        let (made, first) = (refreshes(&self.supervised), self.supervised.sessions as u64);
        let row = |name, read: &dyn Fn(&Counts) -> u64, kept: &dyn Fn(u64) -> bool| {
            let seen = self.server.as_ref().map(read);
            (name, if_known(seen), seen.is_none_or(kept))
        };
        let issued = |counts: &Counts| counts.token.granted.saturating_sub(first);
        let (twice, reused) = (|c: &Counts| c.presented_twice, |c: &Counts| c.reuses_detected);
        vec![
            ("refreshes, as the supervisor counts", count(made), true),
            row("refreshes, as the server counts", &issued, &|there| there >= made),
            row("refresh tokens that the server saw twice", &twice, &|tokens| tokens == 0),
            row("grants that it revoked for reuse", &reused, &|grants| grants == 0),
        ]
    }

    fn of_actors(&self) -> Vec<Row> {
        let Self { killed, supervised, shutdown, .. } = self;
        let restarts = supervised.supervisor_restarts;
        let memory = match self.server {
            Some(_) => "bytes of RSS per session, server included",
            None => "bytes of RSS per session",
        };
        let left =
            format!("{} exchanges, {} saves", shutdown.exchanges_cut, shutdown.unsaved.len());
        vec![
            ("session actors killed", count(killed.sessions), true),
            ("session actors started again", count(supervised.actor_restarts), true),
            ("supervisor actors killed", count(killed.supervisors), true),
            ("supervisor actors started again", count(restarts), restarts == killed.supervisors),
            ("left undone by the shutdown", left, shutdown.is_clean()),
            (memory, if_known(self.rss_per_session), true),
        ]
    }
}

fn count(count: u64) -> String {
    HumanCount(count).to_string()
}

fn if_known(number: Option<u64>) -> String {
    number.map_or_else(|| "not known".to_owned(), count)
}

fn of_kinds(errors: &std::collections::BTreeMap<String, u64>) -> String {
    let kinds: Vec<_> =
        errors.iter().map(|(kind, times)| format!("{times} of \"{kind}\"")).collect();
    if kinds.is_empty() { count(0) } else { kinds.join(", ") }
}

fn latencies(of: &Latencies) -> String {
    format!("{:?}, {:?} ({} calls)", of.percentile(50), of.percentile(99), HumanCount(of.count()))
}
