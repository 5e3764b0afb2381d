//! The machine at random: in a plausible world, and in none.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::*;
use super::rules::woken;
use super::sample::{self, NOW, boot, seconds};
use crate::error::ErrorKind;

/// What happens next. Numbers are dice: the world makes of them what can happen in it.
#[derive(Clone, Debug)]
enum Event {
    Pass(u64),
    Wake,
    Need {
        newer: bool,
        renewable: Renewable,
    },
    Grant,
    Adopt,
    Close,
    Forget,
    Unauthorized {
        back: u64,
    },
    Dead {
        back: u64,
    },
    Accepted,
    ByHand,
    /// Other settings, to which the credentials fit or not.
    Settings {
        foreign: bool,
    },
    /// Another process has stored the newest generation, or so many before it.
    Elsewhere {
        back: u64,
    },
    /// The exchange that runs gets on, if one does.
    Exchange(u8),
    /// Somebody tries to save what is owed.
    Pay(u8),
    /// The store is read, or cannot be.
    Load(bool),
}

fn renewable() -> impl Strategy<Value = Renewable> {
    prop_oneof![Just(Renewable::No), Just(Renewable::Itself), Just(Renewable::Vouched)]
}

fn event() -> impl Strategy<Value = Event> {
    let passes = prop_oneof![0..30_u64, 300..1200_u64, Just(50_000)];
    prop_oneof![
        2 => passes.prop_map(Event::Pass),
        1 => Just(Event::Wake),
        4 => (any::<bool>(), renewable()).prop_map(|(newer, renewable)| {
            Event::Need { newer, renewable }
        }),
        1 => Just(Event::Grant),
        1 => Just(Event::Adopt),
        1 => Just(Event::Close),
        1 => Just(Event::Forget),
        1 => (0..3_u64).prop_map(|back| Event::Unauthorized { back }),
        1 => (0..20_u64).prop_map(|back| Event::Dead { back }),
        1 => Just(Event::Accepted),
        1 => Just(Event::ByHand),
        1 => any::<bool>().prop_map(|foreign| Event::Settings { foreign }),
        1 => (0..3_u64).prop_map(|back| Event::Elsewhere { back }),
        8 => any::<u8>().prop_map(Event::Exchange),
        2 => any::<u8>().prop_map(Event::Pay),
        2 => any::<bool>().prop_map(Event::Load),
    ]
}

/// One session with its actor, its exchange and its store, as far as the machine sees them.
struct World {
    state: State,
    now: Moment,
    /// What runs, and the generation of its answer, if that is here.
    running: Option<(Start, Option<u64>)>,
    /// What is not saved.
    debt: Option<u64>,
    /// The highest that was served.
    served: (u64, u64),
    /// The highest generation that anybody has made.
    newest: u64,
}

impl World {
    fn new(ahead: bool) -> Self {
        let now = sample::after(0);
        let now = if ahead { sample::ahead(now) } else { now };
        let state = State::Unloaded { trouble: None };
        Self { state, now, running: None, debt: None, served: (0, 0), newest: 0 }
    }

    fn boot(&self) -> BootTime {
        self.now.now.boot
    }

    /// Steps the machine and looks at what must always be so.
    fn apply(&mut self, input: Input) -> Option<Start> {
        let before = self.state.clone();
        let (state, effects) = step(before.clone(), input.clone(), &self.now);
        self.state = state;
        if let Some(start) = effects.start.filter(|start| *start != Start::Load) {
            let revokes = start == Start::Revoke && self.running == Some((Start::Close, None));
            assert!(self.running.is_none() || revokes, "two exchanges: {before:?} {input:?}");
            self.running = Some((start, None));
        }
        assert_lost_only_for_a_reason(&before, &input, &self.state, self.boot());
        self.look();
        effects.start
    }

    fn look(&mut self) {
        if let Some(held) = serving(&self.state, self.boot()) {
            let counters = (held.epoch, held.generation);
            assert!(counters >= self.served, "{:?} after {:?}", counters, self.served);
            self.served = counters;
        }
        for above in [0, self.newest] {
            for renewable in [Renewable::No, Renewable::Itself, Renewable::Vouched] {
                assert_answer_is_good(&self.state, above, renewable, &self.now);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Pass(passed) => {
                self.now = Moment {
                    now: sample::at(self.boot().since_boot() + seconds(passed)).now,
                    ..self.now
                };
                self.look();
            }
            Event::Wake => self.wake(),
            Event::Need { newer, renewable } => {
                let above = if newer { self.served.1 } else { 0 };
                self.apply(Input::Need { above, renewable });
            }
            Event::Grant => {
                self.apply(Input::Establish);
            }
            Event::Adopt => {
                self.apply(Input::Adopt);
            }
            Event::Forget => {
                self.apply(Input::Forget);
            }
            Event::Close if self.state.has_nothing_to_close() => {}
            Event::Close => {
                self.apply(Input::Close);
            }
            Event::Unauthorized { back } => self.unauthorized(self.served.1.saturating_sub(back)),
            Event::Dead { back } => {
                let generation = self.served.1.saturating_sub(back);
                self.apply(Input::Dead { generation, reason: LostReason::Revoked });
            }
            Event::Accepted => {
                self.apply(Input::Accepted { generation: self.served.1 });
            }
            Event::ByHand => {
                self.apply(Input::RefreshByHand);
            }
            Event::Settings { foreign } => {
                assert_eq!(self.apply(Input::Reconfigured { foreign }), None);
            }
            Event::Elsewhere { back } => self.elsewhere(back),
            Event::Exchange(dice) => self.exchange(dice),
            Event::Pay(dice) => self.pay(dice),
            Event::Load(readable) => self.load(readable),
        }
        assert_eq!(self.state.is_busy(), self.running.is_some(), "{:?}", self.state);
    }

    fn wake(&mut self) {
        self.apply(Input::Tick);
        let due = |world: &Self| {
            next_wake(&world.state, &world.now.rules).is_some_and(|wake| wake <= world.boot())
        };
        if due(self) && self.running.is_none() {
            self.apply(Input::Need { above: 0, renewable: Renewable::No });
        }
        assert!(self.running.is_some() || !due(self), "it spins in {:?}", self.state);
    }

    /// Another process has stored something, which is old news or the newest.
    fn elsewhere(&mut self, back: u64) {
        let known = self.state.rest().map(|rest| rest.counters());
        let counters = (self.served.0, (self.newest + 1).saturating_sub(back));
        let started = self.apply(Input::Elsewhere { counters: Some(counters) });
        let read_again = started == Some(Start::Load);
        assert_eq!(read_again, known.is_some() && self.state.is_unloaded());
        assert!(!read_again || known < Some(counters) && self.debt.is_none());
    }

    /// Invariant 6: a 401 matters only to the current generation.
    fn unauthorized(&mut self, generation: u64) {
        let before = format!("{:?}", self.state);
        let current = match &self.state {
            State::Refreshing { held, .. } => Some(held.generation),
            state @ (State::Unloaded { .. }
            | State::Rest(_)
            | State::Challenged { .. }
            | State::Establishing { .. }
            | State::Closing { .. }
            | State::Revoking { .. }) => state.rest().map(|rest| rest.counters().1),
        };
        assert_eq!(self.apply(Input::Rejected { generation }), None);
        if current != Some(generation) {
            assert_eq!(format!("{:?}", self.state), before);
        }
    }

    fn load(&mut self, readable: bool) {
        if self.apply(Input::Need { above: 0, renewable: Renewable::No }) != Some(Start::Load) {
            return;
        }
        if !readable {
            self.apply(Input::LoadFailed(Error::new(ErrorKind::Store)));
        } else if self.newest == 0 {
            self.apply(Input::Loaded(sample::vacant()));
        } else {
            // What made this one read again is newer, and another process's.
            self.newest += 1;
            let held = self.issued((self.served.0 + 1, self.newest));
            self.apply(Input::Loaded(Rest::Active(held)));
        }
    }

    fn issued(&self, counters: (u64, u64)) -> Held {
        let held = sample::held(self.boot().since_boot().as_secs(), counters);
        if counters.1.is_multiple_of(5) { sample::single(held) } else { held }
    }

    fn exchange(&mut self, dice: u8) {
        let Some((start, answer)) = self.running else { return };
        match (start, answer) {
            (Start::Close, _) => self.close(dice),
            (Start::Forget, _) => self.forget(dice),
            (Start::Revoke, _) if dice.is_multiple_of(2) => self.end(Input::Told),
            (Start::Revoke, _) => {
                let trouble = sample::trouble(self.boot().since_boot().as_secs() + 5);
                self.end(Input::Untold { trouble });
            }
            (_, Some(generation)) => self.save(generation, dice),
            (_, None) => self.answer(start, dice),
        }
    }

    fn end(&mut self, input: Input) {
        let (start, _) = self.running.take().unwrap();
        assert_ne!(start, Start::Load);
        self.apply(input);
    }

    fn answer(&mut self, start: Start, dice: u8) {
        if self.debt.is_some() {
            // The claim comes after the debt.
            self.pay(0);
        }
        let retry = if dice.is_multiple_of(2) { Retry::AtOnce } else { Retry::Late };
        let class = match dice % 16 {
            0..=5 => return self.receive(start),
            8 => return self.end(Input::Superseded),
            _ if start == Start::Adopt => Class::Harmless,
            6 if start == Start::Establish => return self.end(Input::Challenged),
            7 => {
                self.apply(Input::Overdue);
                return;
            }
            9 => Class::Unclassified { healthy_at: Some(self.boot()) },
            10 if dice > 100 => Class::HeldBack,
            10 => Class::Misconfigured,
            11 | 12 => Class::Ambiguous(retry),
            13 => Class::Rejected,
            14 => Class::Refused,
            _ => Class::Harmless,
        };
        let failure = Failure { wait: seconds(u64::from(dice) % 40), ..sample::failure(class) };
        self.end(Input::Failed(failure));
    }

    fn receive(&mut self, start: Start) {
        let (epoch, _) = self.state.rest().map_or((0, 0), |rest| rest.counters());
        let epoch = if start == Start::Refresh { epoch } else { epoch + 1 };
        self.newest += 1;
        self.apply(Input::Issued(self.issued((epoch, self.newest))));
        self.running = Some((start, Some(self.newest)));
    }

    /// An answer that is here is never thrown away.
    fn save(&mut self, generation: u64, dice: u8) {
        let epoch = self.answered_epoch();
        match dice % 6 {
            0 => return self.end(Input::Superseded),
            1 => self.end(Input::Owed),
            2 => {
                let cut = sample::failure(Class::Ambiguous(Retry::Late));
                self.end(Input::Failed(cut));
            }
            // The store had counted further.
            3 => {
                self.newest += 2;
                self.end(Input::Saved { epoch, generation: self.newest, suspect: false });
            }
            dice => self.end(Input::Saved { epoch, generation, suspect: dice == 4 }),
        }
        let kept = self.state.rest().map(|rest| rest.counters());
        assert!(kept >= Some((epoch, generation)), "{generation} is lost in {:?}", self.state);
        if (1..=2).contains(&(dice % 6)) {
            self.debt = Some(generation);
        }
    }

    fn answered_epoch(&self) -> u64 {
        match &self.state {
            State::Establishing { answer: Some(held), .. }
            | State::Refreshing { answer: Some(held), .. } => held.epoch,
            other @ (State::Unloaded { .. }
            | State::Rest(_)
            | State::Challenged { .. }
            | State::Establishing { .. }
            | State::Refreshing { .. }
            | State::Closing { .. }
            | State::Revoking { .. }) => panic!("the answer is lost: {other:?}"),
        }
    }

    fn pay(&mut self, dice: u8) {
        let Some(generation) = self.debt else { return };
        match dice % 4 {
            0 | 1 => {
                self.debt = None;
                let epoch = self.state.rest().map_or(0, |rest| rest.counters().0);
                self.apply(Input::Saved { epoch, generation, suspect: false });
            }
            2 => {
                self.apply(Input::Owed);
            }
            _ => {
                self.debt = None;
                self.apply(Input::Outdated);
            }
        }
    }

    fn forget(&mut self, dice: u8) {
        if dice.is_multiple_of(3) {
            return self.end(Input::ForgetFailed);
        }
        (self.debt, self.newest, self.served) = (None, 0, (0, 0));
        self.end(Input::Forgotten);
        let gone = matches!(self.state, State::Rest(Rest::Vacant { trouble: None }));
        assert!(gone, "{:?} is left", self.state);
    }

    fn close(&mut self, dice: u8) {
        match dice % 4 {
            0 => self.end(Input::CloseFailed),
            1 => self.end(Input::Superseded),
            dice => {
                self.newest += 1;
                let epoch = self.state.rest().map_or(0, |rest| rest.counters().0);
                let closed = Closed { epoch, generation: self.newest, ..sample::closed(dice == 2) };
                self.debt = None;
                self.running = None;
                self.apply(Input::ClosedDurably { closed });
            }
        }
    }
}

/// Invariants 4 and 5, and that a caller is not told of an end that did not come.
fn assert_answer_is_good(state: &State, above: u64, renewable: Renewable, at: &Moment) {
    let now = at.now.boot;
    let need = || step(state.clone(), Input::Need { above, renewable }, at);
    match answer(state, above, renewable, now) {
        Answer::Token(token) => {
            let held = serving(state, now).expect("a token that is not served");
            assert!(token.generation() > above && token.generation() == held.generation);
            assert!(held.expires.is_none_or(|end| now < end));
            assert!(!held.rejected && !held.foreign);
            assert!(!(held.suspect && held.can_refresh(now)));
        }
        Answer::Fail(error) => {
            let (next, effects) = need();
            let lost = |state: &State| state.rest().and_then(|rest| rest.lost());
            if lost(&next) != lost(state) {
                return; // Its refresh token has ended, and no wake has said so yet.
            }
            assert_eq!(effects.start, None, "{error:?} is not kept in {state:?}");
            let Answer::Fail(same) = answer(&next, above, renewable, now) else {
                panic!("{error:?} is not kept in {next:?}")
            };
            assert_eq!(same.kind(), error.kind());
        }
        Answer::Ask => {
            let (next, effects) = need();
            let none_left = |held: &Held| !held.can_refresh(now) && !held.is_owed();
            let ended = next.rest().and_then(|rest| rest.serving().map(none_left));
            let asks = matches!(answer(&next, above, renewable, now), Answer::Ask);
            assert!(effects.start.is_some() || !asks || ended == Some(true), "{next:?}");
        }
        Answer::Wait => assert!(state.is_busy()),
    }
}

/// Invariant 7.
fn assert_lost_only_for_a_reason(before: &State, input: &Input, after: &State, now: BootTime) {
    let lost = |state: &State| state.rest().and_then(|rest| rest.lost());
    let (None, Some(reason)) = (lost(before), lost(after)) else { return };
    let rest = before.rest().expect("lost from nothing");
    let held = rest.serving().expect("lost without credentials");
    let ended = !held.can_refresh(now) && (held.rejected || held.is_expired(now))
        || held.refresh_expires.is_some_and(|end| now >= end);
    // Also a single answer that is not understood: many came before it, the first long ago.
    let ladder = held.unclassified.as_ref().is_some_and(|former| {
        former.answers + 1 >= 3 && now.since(former.since) >= seconds(60) && held.is_expired(now)
    });
    let failed = |failure: &Failure| match failure.class {
        Class::Rejected | Class::Refused => true,
        Class::Unclassified { .. } => ladder || held.rejected,
        Class::Harmless | Class::HeldBack | Class::Misconfigured | Class::Ambiguous(_) => false,
    };
    let allowed = match input {
        Input::Failed(failure) => {
            failed(failure) && matches!(before, State::Refreshing { answer: None, .. })
        }
        Input::Dead { generation, .. } => held.generation == *generation,
        Input::Need { .. } | Input::Tick => ended,
        Input::Loaded(_)
        | Input::LoadFailed(_)
        | Input::Establish
        | Input::Adopt
        | Input::Close
        | Input::Forget
        | Input::Forgotten
        | Input::ForgetFailed
        | Input::Issued(_)
        | Input::Challenged
        | Input::Overdue
        | Input::Saved { .. }
        | Input::Owed
        | Input::Superseded
        | Input::Outdated
        | Input::Elsewhere { .. }
        | Input::ClosedDurably { .. }
        | Input::CloseFailed
        | Input::Told
        | Input::Untold { .. }
        | Input::Rejected { .. }
        | Input::Accepted { .. }
        | Input::RefreshByHand
        | Input::Reconfigured { .. } => false,
    };
    assert!(allowed, "{reason:?} by {input:?} in {before:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_a_plausible_world_every_invariant_holds(
        ahead in any::<bool>(),
        events in vec(event(), 0..120),
    ) {
        let mut world = World::new(ahead);
        for event in events {
            world.happen(event);
        }
    }

    #[test]
    fn no_input_in_any_state_makes_a_second_exchange_or_a_schedule_that_spins(
        first in any::<prop::sample::Index>(),
        steps in vec((any::<prop::sample::Index>(), 0..900_u64), 0..40),
    ) {
        let (states, inputs) = (sample::states(), sample::inputs());
        let (_, mut state) = first.get(&states).clone();
        let mut passed = 0;
        for (input, pass) in steps {
            passed += pass;
            let at = sample::ahead(sample::after(passed));
            let was_busy = state.is_busy();
            let was_closing = matches!(state, State::Closing { .. });
            let (name, input) = input.get(&inputs).clone();
            let (next, Effects { start, .. }) = step(state, input, &at);
            match start {
                None => {}
                Some(Start::Load) => prop_assert!(next.is_unloaded(), "{name}"),
                Some(Start::Revoke) => prop_assert!(!was_busy || was_closing, "{name}"),
                Some(
                    Start::Refresh
                    | Start::Renew
                    | Start::Establish
                    | Start::Adopt
                    | Start::Close
                    | Start::Forget,
                ) => {
                    prop_assert!(!was_busy && next.is_busy(), "{name}");
                }
            }
            let after = woken(next.clone(), &at);
            let wake = next_wake(&after, &at.rules);
            let spins = wake.is_some_and(|wake| wake <= boot(NOW + passed));
            prop_assert!(after.is_busy() || !spins, "{name}: {after:?}");
            if let Answer::Token(token) = answer(&next, sample::G, Renewable::Itself, at.now.boot) {
                prop_assert!(token.generation() > sample::G);
            }
            state = next;
        }
    }
}
