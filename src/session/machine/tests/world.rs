//! One session with its actor, its exchange, its store and the other processes, as far as the
//! machine sees them.

use super::super::*;
use super::random::{assert_answer_is_good, assert_lost_only_for_a_reason};
use super::sample::{self, seconds};
use crate::error::ErrorKind;

/// An event. Its numbers are random: the world picks by them something that can happen in it.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Pass(u64),
    Wake,
    Need {
        newer: bool,
        renewable: Renewable,
    },
    Begin(Start),
    Unauthorized {
        back: u64,
    },
    Dead {
        back: u64,
    },
    Accepted,
    ByHand,
    /// Other settings, which may or may not fit the credentials.
    Settings {
        issuer_mismatch: bool,
    },
    /// Another process may write, and this one notices the change, perhaps late.
    Elsewhere {
        writes: bool,
        back: u64,
        jitter: u8,
    },
    /// The store goes back to an older state of the record.
    Back,
    /// The running exchange makes progress.
    Exchange(u8),
    /// The process tries to save unsaved credentials.
    SaveUnsaved(u8),
    /// A caller loads the record, if that is needed.
    Load,
    /// A load or a restore ends.
    Answered(u8),
}

pub(super) struct World {
    state: State,
    now: StepContext,
    /// The running work, and the generation of its answer if the answer has arrived.
    running: Option<(Start, Option<u64>)>,
    /// The generation that is not saved.
    unsaved: Option<u64>,
    /// The highest counters that were served.
    served: (u64, u64),
    /// The highest generation that any process has made.
    newest: u64,
    /// The store's record, and its version.
    record: (u64, Settled),
    /// The record before the last write.
    former: (u64, Settled),
    /// Another process wrote the record after this one wrote or loaded it.
    overtaken: bool,
    /// The newest load, and the record as it was when the load began.
    load: Option<(u32, (u64, Settled))>,
    restoring: bool,
    /// The ends of the session by other processes: how many loads had begun, and the version that
    /// was written, if it is known.
    ended: Vec<(u32, Option<u64>)>,
    /// The highest generation that an API rejected.
    rejected: u64,
}

impl World {
    pub(super) fn new(ahead: bool) -> Self {
        let now = sample::after(0);
        Self {
            state: State::default(),
            now: if ahead { sample::ahead(now) } else { now },
            running: None,
            unsaved: None,
            served: (0, 0),
            newest: 0,
            record: (0, sample::vacant()),
            former: (0, sample::vacant()),
            overtaken: false,
            load: None,
            restoring: false,
            ended: Vec::new(),
            rejected: 0,
        }
    }

    fn boot(&self) -> BootTime {
        self.now.now.boot
    }

    /// Steps the machine and checks the invariants.
    fn apply(&mut self, input: Input) -> Option<Start> {
        let before = self.state.clone();
        let (state, effects) = step(before.clone(), input.clone(), &self.now);
        self.state = state;
        match effects.start {
            Some(Start::Load(number)) => self.load = Some((number, self.record.clone())),
            Some(Start::Restore) => self.restoring = true,
            Some(start) => {
                let revokes = start == Start::Revoke && self.running == Some((Start::Close, None));
                assert!(self.running.is_none() || revokes, "two exchanges: {before:?} {input:?}");
                self.running = Some((start, None));
            }
            None => {}
        }
        assert_lost_only_for_a_reason(&before, &input, &self.state, self.boot());
        self.check_invariants();
        effects.start
    }

    fn check_invariants(&mut self) {
        if let Some(held) = serving(&self.state, self.boot()) {
            let counters = (held.epoch, held.generation);
            assert!(counters >= self.served, "{:?} after {:?}", counters, self.served);
            assert!(self.ended.is_empty(), "it was ended elsewhere: {:?}", self.state);
            assert!(held.token_generation > self.rejected, "it was rejected: {:?}", self.state);
            self.served = counters;
        }
        for newer_than in [0, self.newest] {
            for renewable in [Renewable::No, Renewable::Itself, Renewable::Vouched] {
                assert_answer_is_good(&self.state, newer_than, renewable, &self.now);
            }
        }
    }

    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Pass(passed) => {
                let later = sample::at(self.boot().since_boot() + seconds(passed));
                self.now = StepContext { now: later.now, ..self.now };
                self.check_invariants();
            }
            Event::Wake => self.wake(),
            Event::Need { newer, renewable } => {
                let newer_than = if newer { self.served.1 } else { 0 };
                self.apply(Input::Need { newer_than, renewable });
            }
            Event::Begin(Start::Close) if self.state.has_nothing_to_close() => {}
            Event::Begin(start) => drop(self.apply(Input::Begin(start))),
            Event::Unauthorized { back } => self.unauthorized(self.served.1.saturating_sub(back)),
            Event::Dead { back } => {
                let generation = self.served.1.saturating_sub(back);
                self.apply(Input::Dead { generation, reason: LostReason::Revoked });
            }
            Event::Accepted => drop(self.apply(Input::Accepted { generation: self.served.1 })),
            Event::ByHand => drop(self.apply(Input::RefreshByHand)),
            Event::Settings { issuer_mismatch } => {
                self.apply(Input::Reconfigured { issuer_mismatch });
            }
            Event::Elsewhere { writes, back, jitter } => self.elsewhere(writes, back, jitter),
            Event::Back => self.go_back(),
            Event::Exchange(jitter) => self.exchange(jitter),
            Event::SaveUnsaved(jitter) => self.save_unsaved(jitter),
            Event::Load => self.load_record(),
            Event::Answered(jitter) => self.answered(jitter),
        }
        assert_eq!(self.state.is_busy(), self.running.is_some(), "{:?}", self.state);
    }

    fn wake(&mut self) {
        self.apply(Input::Tick);
        let due = |world: &Self| {
            next_wake(&world.state, &world.now.policy).is_some_and(|wake| wake <= world.boot())
        };
        let is_known = self.record.0 == self.state.version;
        match due_now(&self.state, &self.now.policy, self.boot()) {
            Due::Nothing => {}
            Due::Exchange => {
                if self.apply(Input::Begin(Start::Revoke)).is_none() {
                    self.apply(Input::Need { newer_than: 0, renewable: Renewable::No });
                }
            }
            Due::Announce { left, .. } if is_known => {
                let version = self.wrote(self.record.1.clone());
                self.apply(Input::Announced { version, left });
            }
            Due::Lost(reason) if is_known => {
                let lost = self.state.settled.clone().unwrap();
                let version = self.wrote(lost);
                self.apply(Input::LossRecorded { version, reason });
            }
            Due::Announce { .. } | Due::Lost(_) => {
                // Another process was faster. The schedule checks again.
                self.apply(Input::ExternalChange(ExternalChange::UNKNOWN));
                return;
            }
        }
        assert!(self.running.is_some() || !due(self), "it spins in {:?}", self.state);
    }

    fn elsewhere(&mut self, writes: bool, back: u64, jitter: u8) {
        if writes {
            self.newest += 1;
            let (epoch, _) = self.record.1.counters();
            let counters = (epoch.max(self.served.0) + u64::from(jitter % 2), self.newest);
            let held = self.recorded(counters);
            self.wrote(match jitter % 5 {
                0 => Settled::Closed(Closed {
                    epoch: counters.0,
                    generation: counters.1,
                    ..sample::closed(false)
                }),
                1 => {
                    let lost = sample::lost(held, LostReason::Rejected);
                    Settled::Lost(Lost { epoch: counters.0, generation: counters.1, ..lost })
                }
                _ => Settled::Active(held),
            });
            self.overtaken = true;
        }
        let ends = matches!(self.record.1, Settled::Closed(_) | Settled::Lost(_)) || jitter > 200;
        let version = (!jitter.is_multiple_of(7)).then_some(self.record.0.saturating_sub(back));
        let known = version.is_some_and(|version| version <= self.state.version);
        let is_read = !self.state.is_unloaded() || self.state.load.running.is_some();
        if ends && is_read && !known {
            self.end_elsewhere(version);
        }
        let started = self.apply(Input::ExternalChange(ExternalChange { version, ends }));
        assert!(started.is_none_or(|start| start.is_load()));
        assert!(started.is_none() || (is_read && self.unsaved.is_none() && self.running.is_none()));
    }

    fn end_elsewhere(&mut self, version: Option<u64>) {
        self.ended.push((self.state.load.number, version));
    }

    /// Writes the record once more.
    fn wrote(&mut self, record: Settled) -> u64 {
        let next = (self.record.0 + 1, record);
        self.former = std::mem::replace(&mut self.record, next);
        self.overtaken = false;
        self.ended.clear();
        self.record.0
    }

    fn go_back(&mut self) {
        if self.running.is_none() {
            self.record = self.former.clone();
            self.overtaken = true;
        }
    }

    /// Invariant 6: a 401 matters only to the current generation.
    fn unauthorized(&mut self, generation: u64) {
        let before = format!("{:?}", self.state);
        let held = self.state.settled.as_ref().and_then(Settled::held);
        let current = held.is_some_and(|held| held.is_of(generation))
            || generation == self.state.counters().1;
        let held = self.state.settled.as_ref().and_then(Settled::serving);
        if held.is_some_and(|held| held.is_of(generation)) {
            self.rejected = self.rejected.max(generation);
        }
        let started = self.apply(Input::Rejected { generation });
        assert!(started.is_none_or(|start| start.is_load()));
        if !current && started.is_none() {
            assert_eq!(format!("{:?}", self.state), before);
        }
    }

    fn load_record(&mut self) {
        let asked = token_decision(&self.state, 0, Renewable::No, self.boot());
        if matches!(asked, TokenDecision::Load) {
            let number = begin_load(&mut self.state);
            self.load = Some((number, self.record.clone()));
        }
    }

    fn answered(&mut self, jitter: u8) {
        if std::mem::take(&mut self.restoring) {
            return self.restored(jitter);
        }
        let Some((number, former)) = self.load.take() else { return };
        let (version, settled) =
            if jitter.is_multiple_of(2) { former } else { self.record.clone() };
        match jitter % 8 {
            0 => drop(self.apply(Input::LoadFailed { read: number, error: load_error() })),
            1 => abandon_load(&mut self.state, number),
            // An answer to a load that a newer load has replaced.
            2 if number > 1 => {
                let before = format!("{:?}", self.state.settled);
                self.apply(Input::Loaded { read: number - 1, version, settled });
                assert_eq!(format!("{:?}", self.state.settled), before);
            }
            _ => self.loaded(number, version, settled),
        }
    }

    fn loaded(&mut self, number: u32, version: u64, settled: Settled) {
        let counts = self.state.load.number == number && self.state.load.running.is_some();
        if counts {
            let shown = |external_change: Option<u64>| {
                external_change.is_some_and(|external_change| external_change <= version)
            };
            self.ended
                .retain(|(begun, external_change)| *begun >= number && !shown(*external_change));
            self.overtaken &= version != self.record.0;
        }
        let known = (self.served, self.rejected);
        if counts && settled.counters() < self.state.counters().max(self.served) {
            // The slot, not the machine, remembers what a store that went back must not bring back.
            (self.served, self.rejected) = ((0, 0), 0);
        }
        let (before, reads) = (self.state.version, self.state.load.restored);
        let older = version < before && settled.counters() < self.state.counters();
        let started = self.apply(Input::Loaded { read: number, version, settled });
        if started == Some(Start::Restore) {
            assert!(counts && older && !reads);
            (self.served, self.rejected) = known;
            assert_eq!(self.state.version, before, "the held state stays");
        }
    }

    fn restored(&mut self, jitter: u8) {
        let held = self.state.settled.clone().filter(|_| self.running.is_none());
        match held {
            Some(settled @ Settled::Active(_))
                if jitter.is_multiple_of(2) && self.unsaved.is_none() =>
            {
                let version = self.wrote(settled);
                self.apply(Input::Wrote { version });
            }
            _ => drop(self.apply(Input::ExternalChange(ExternalChange::UNKNOWN))),
        }
    }

    fn issued(&self, counters: (u64, u64)) -> CredentialState {
        let held = sample::held(self.boot().since_boot().as_secs(), counters);
        if counters.1.is_multiple_of(5) { sample::single(held) } else { held }
    }

    /// The credentials as a loaded record has them.
    fn recorded(&self, counters: (u64, u64)) -> CredentialState {
        CredentialState { derived_at: Some(seconds(1)), ..self.issued(counters) }
    }

    fn exchange(&mut self, jitter: u8) {
        let Some((start, answer)) = self.running else { return };
        match (start, answer) {
            (Start::Close, _) => self.close(jitter),
            (Start::Forget, _) => self.forget(jitter),
            (Start::Revoke, _) if jitter.is_multiple_of(2) => self.end(Input::Revoked),
            (Start::Revoke, _) => {
                let backoff = sample::backoff(self.boot().since_boot().as_secs() + 5);
                self.end(Input::RevocationFailed { backoff });
            }
            (_, Some(generation)) => self.save(generation, jitter),
            (_, None) => self.answer(start, jitter),
        }
    }

    fn end(&mut self, input: Input) {
        let (start, _) = self.running.take().unwrap();
        assert!(!start.is_load());
        self.apply(input);
    }

    fn answer(&mut self, start: Start, jitter: u8) {
        let follows = matches!(start, Start::Establish | Start::Adopt);
        if !follows && jitter % 16 == 15 {
            return self.end(Input::NotBegun);
        }
        if self.unsaved.is_some() {
            // Unsaved credentials are saved before the claim.
            self.save_unsaved(0);
        }
        match (self.overtaken, follows) {
            (true, false) => return self.end(Input::Conflict { found: None }),
            (true, true) => drop(self.apply(Input::ExternalChange(ExternalChange::UNKNOWN))),
            (false, _) => {}
        }
        let retry = if jitter.is_multiple_of(2) { Retry::AtOnce } else { Retry::Late };
        let class = match jitter % 16 {
            0..=4 => return self.receive(start, None),
            5 => return self.receive(start, Some(sample::failure(Class::Harmless))),
            8 => return self.end(Input::Conflict { found: None }),
            _ if start == Start::Adopt => Class::Harmless,
            6 if start == Start::Establish => return self.end(Input::Challenged),
            7 => {
                let version = self.wrote(self.record.1.clone());
                self.apply(Input::Wrote { version });
                return;
            }
            9 => Class::Unclassified { other_success_at: Some(self.boot()) },
            10 if jitter > 100 => Class::HeldBack,
            10 => Class::Misconfigured,
            11 | 12 => Class::Ambiguous(retry),
            13 => Class::Rejected,
            14 => Class::Refused,
            _ => Class::Harmless,
        };
        let failure = Failure { wait: seconds(u64::from(jitter) % 40), ..sample::failure(class) };
        self.end(Input::Failed(failure));
    }

    /// With a failure, the answer to a refresh has a refresh token only.
    fn receive(&mut self, start: Start, failure: Option<Failure>) {
        let epoch = self.state.counters().0.max(self.record.1.counters().0);
        let epoch = if start == Start::Refresh { epoch } else { epoch + 1 };
        self.newest += 1;
        let issued = self.issued((epoch, self.newest));
        let former = self.state.settled.as_ref().and_then(Settled::held).cloned();
        self.apply(Input::Issued(match (former, failure) {
            (Some(former), Some(failure)) if start == Start::Refresh => {
                with_former_token(issued, former, &failure, &self.now)
            }
            (_, _) => issued,
        }));
        self.running = Some((start, Some(self.newest)));
    }

    /// An answer that has arrived is never thrown away, unless another process was faster.
    fn save(&mut self, generation: u64, jitter: u8) {
        let epoch = self.answered_epoch();
        if self.overtaken && jitter % 6 > 2 {
            self.end_elsewhere(None);
            self.apply(Input::TokensSuperseded { found: None });
            return self.end(Input::Conflict { found: None });
        }
        match jitter % 6 {
            0 => return self.end(Input::Conflict { found: None }),
            1 => self.end(Input::Unsaved),
            2 => {
                let cut = sample::failure(Class::Ambiguous(Retry::Late));
                self.end(Input::Failed(cut));
            }
            jitter => {
                // The store may have counted further.
                self.newest += if jitter == 3 { 2 } else { 0 };
                let generation = if jitter == 3 { self.newest } else { generation };
                let version = self.wrote(Settled::Active(self.recorded((epoch, generation))));
                self.end(Input::Saved { version, epoch, generation, suspect: jitter == 4 });
            }
        }
        let kept = self.state.counters();
        assert!(kept >= (epoch, generation), "{generation} is lost in {:?}", self.state);
        if (1..=2).contains(&(jitter % 6)) {
            self.unsaved = Some(generation);
        }
    }

    fn answered_epoch(&self) -> u64 {
        match &self.state.running {
            Some(
                Run::Establish { answer: Some(held), .. } | Run::Refresh { answer: Some(held) },
            ) => held.epoch,
            other => panic!("the answer is lost: {other:?}"),
        }
    }

    fn save_unsaved(&mut self, jitter: u8) {
        let Some(generation) = self.unsaved else { return };
        match jitter % 4 {
            2 => drop(self.apply(Input::Unsaved)),
            _ if self.overtaken => {
                self.unsaved = None;
                self.end_elsewhere(None);
                self.apply(Input::TokensSuperseded { found: None });
            }
            _ => {
                self.unsaved = None;
                let epoch = self.state.counters().0;
                let version = self.wrote(Settled::Active(self.recorded((epoch, generation))));
                self.apply(Input::Saved { version, epoch, generation, suspect: false });
            }
        }
    }

    fn forget(&mut self, jitter: u8) {
        if jitter.is_multiple_of(3) {
            return self.end(Input::ForgetFailed);
        }
        (self.unsaved, self.newest, self.served) = (None, 0, (0, 0));
        self.rejected = 0;
        // Even a store that goes back does not bring back the former record.
        self.wrote(sample::vacant());
        self.former = self.record.clone();
        self.end(Input::Forgotten);
        let gone = matches!(self.state.settled, Some(Settled::Vacant { backoff: None }));
        assert!(gone && self.state.running.is_none(), "{:?} is left", self.state);
    }

    fn close(&mut self, jitter: u8) {
        match jitter % 4 {
            0 => self.end(Input::CloseFailed),
            1 => self.end(Input::Conflict { found: None }),
            jitter => {
                self.newest += 1;
                let epoch = self.state.counters().0.max(self.record.1.counters().0);
                let closed =
                    Closed { epoch, generation: self.newest, ..sample::closed(jitter == 2) };
                let version = self.wrote(Settled::Closed(closed.clone()));
                self.unsaved = None;
                self.running = None;
                self.apply(Input::ClosedDurably { version, closed });
            }
        }
    }
}

fn load_error() -> Error {
    Error::new(ErrorKind::Store)
}
