//! The table, and the check of the guarantees.

use anyhow::ensure;
use indicatif::HumanCount;
use session_warden::provider::Rotation;
use session_warden::supervisor::{ShutdownReport, Snapshot};
use session_warden::testing::Counts;

use crate::measure::{Calls, Failures, Killed, Latencies, refreshes};

pub(crate) struct Outcome {
    pub(crate) sign_ins: SignIns,
    pub(crate) calls: Calls,
    pub(crate) killed: Killed,
    pub(crate) lost: Failures,
    pub(crate) shutdown: ShutdownReport,
    pub(crate) supervised: Snapshot,
    /// Counts that only this example's own server has.
    pub(crate) server: Option<Counts>,
    pub(crate) rotation: Rotation,
    pub(crate) rss_per_session: Option<u64>,
}

pub(crate) struct SignIns {
    pub(crate) succeeded: usize,
    pub(crate) failed: Failures,
}

/// A line of the table.
struct Row {
    name: &'static str,
    value: String,
    /// Lines below it.
    failures: Vec<String>,
    /// Whether it keeps the guarantee.
    kept: bool,
}

impl Row {
    fn new(name: &'static str, value: String, kept: bool) -> Self {
        Self { name, value, failures: Vec::new(), kept }
    }

    fn failing(name: &'static str, failures: &Failures, all: Option<usize>, kept: bool) -> Self {
        let number = count(failures.count());
        let value = all.map_or_else(|| number.clone(), |all| format!("{number} of {all}"));
        Self { failures: failures.lines(), ..Self::new(name, value, kept) }
    }
}

impl Outcome {
    /// Prints the table. Fails with the lines that break a guarantee.
    pub(crate) fn report(&self) -> anyhow::Result<()> {
        let rows = [self.of_callers(), self.of_server(), self.of_actors()];
        let rows: Vec<_> = rows.into_iter().flatten().collect();
        for Row { name, value, failures, .. } in &rows {
            println!("{name:<42} {value}");
            failures.iter().for_each(|line| println!("{line}"));
        }
        let broken: Vec<_> = rows.into_iter().filter(|row| !row.kept).collect();
        let broken: Vec<_> =
            broken.iter().map(|row| format!("{}: {}", row.name, row.value)).collect();
        ensure!(broken.is_empty(), "promises were broken: {}", broken.join("; "));
        Ok(())
    }

    fn of_callers(&self) -> Vec<Row> {
        let Calls { served, expired, errors, fresh, waiting } = &self.calls;
        let SignIns { succeeded, failed } = &self.sign_ins;
        let tried = succeeded + failed.count() as usize;
        let lost = self.lost.count();
        vec![
            // It breaks no promise of the crate: its caller knows of it, and can repeat it.
            Row::failing("sign-ins that failed", failed, Some(tried), true),
            Row::new("tokens served", count(*served), *served > 0),
            Row::new("tokens that had expired", count(*expired), *expired == 0),
            Row::failing("errors that callers got", errors, None, errors.count() == 0),
            Row::failing("sessions lost", &self.lost, Some(*succeeded), lost == 0),
            Row::new("fresh calls, p50 and p99", latencies(fresh), true),
            Row::new("waiting calls, p50 and p99", latencies(waiting), true),
        ]
    }

    fn of_server(&self) -> Vec<Row> {
        let signed_in = self.sign_ins.succeeded;
        let made = refreshes(&self.supervised, signed_in);
        let row = |name, read: &dyn Fn(&Counts) -> u64, kept: &dyn Fn(u64) -> bool| {
            let seen = self.server.as_ref().map(read);
            Row::new(name, if_known(seen), seen.is_none_or(kept))
        };
        let issued = |counts: &Counts| counts.token.granted.saturating_sub(signed_in as u64);
        let (twice, reused) = (|c: &Counts| c.presented_twice, |c: &Counts| c.reuses_detected);
        // Only at a strict server a refresh token serves once.
        let is_strict = self.rotation == Rotation::Strict;
        vec![
            Row::new("refreshes, as the supervisor counts", count(made), true),
            row("refreshes, as the server counts", &issued, &|there| there >= made),
            row("refresh tokens that the server saw twice", &twice, &|tokens| {
                tokens == 0 || !is_strict
            }),
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
        let supervisors = count(killed.supervisors);
        vec![
            Row::new("session actors killed", count(killed.sessions), true),
            Row::new("session actors started again", count(supervised.actor_restarts), true),
            Row::new("supervisor actors killed", supervisors, true),
            Row::new(
                "supervisor actors started again",
                count(restarts),
                restarts == killed.supervisors,
            ),
            Row::new("left undone by the shutdown", left, shutdown.is_clean()),
            Row::new(memory, if_known(self.rss_per_session), true),
        ]
    }
}

fn count(count: u64) -> String {
    HumanCount(count).to_string()
}

fn if_known(number: Option<u64>) -> String {
    number.map_or_else(|| "not known".to_owned(), count)
}

fn latencies(of: &Latencies) -> String {
    format!("{:?}, {:?} ({} calls)", of.percentile(50), of.percentile(99), HumanCount(of.count()))
}
