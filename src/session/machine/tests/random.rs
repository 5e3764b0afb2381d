//! The machine at random: in a plausible world, and in none.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::*;
use super::rules::woken;
use super::sample::{self, NOW, boot, seconds};
use super::world::{Event, World};

fn renewable() -> impl Strategy<Value = Renewable> {
    prop_oneof![Just(Renewable::No), Just(Renewable::Itself), Just(Renewable::Vouched)]
}

fn run_job() -> impl Strategy<Value = Start> {
    prop_oneof![Just(Start::Establish), Just(Start::Adopt), Just(Start::Close), Just(Start::Forget)]
}

fn event() -> impl Strategy<Value = Event> {
    let passes = prop_oneof![0..30_u64, 300..1200_u64, Just(50_000)];
    prop_oneof![
        2 => passes.prop_map(Event::Pass),
        1 => Just(Event::Wake),
        4 => (any::<bool>(), renewable()).prop_map(|(newer, renewable)| {
            Event::Need { newer, renewable }
        }),
        4 => run_job().prop_map(Event::Begin),
        1 => (0..3_u64).prop_map(|back| Event::Unauthorized { back }),
        1 => (0..20_u64).prop_map(|back| Event::Dead { back }),
        1 => Just(Event::Accepted),
        1 => Just(Event::ByHand),
        1 => any::<bool>().prop_map(|issuer_mismatch| Event::Settings { issuer_mismatch }),
        3 => (any::<bool>(), 0..3_u64, any::<u8>()).prop_map(|(writes, back, jitter)| {
            Event::Elsewhere { writes, back, jitter }
        }),
        1 => Just(Event::Back),
        8 => any::<u8>().prop_map(Event::Exchange),
        2 => any::<u8>().prop_map(Event::SaveUnsaved),
        3 => Just(Event::Load),
        4 => any::<u8>().prop_map(Event::Answered),
    ]
}

/// Invariants 4 and 5, and that a caller gets no loss that did not happen.
pub(super) fn assert_answer_is_good(
    state: &State,
    newer_than: u64,
    renewable: Renewable,
    at: &StepContext,
) {
    let now = at.now.boot;
    let need = || step(state.clone(), Input::Need { newer_than, renewable }, at);
    match token_decision(state, newer_than, renewable, now) {
        TokenDecision::Token(token) => {
            let held = serving(state, now).expect("a token that is not served");
            assert!(token.generation() > newer_than && token.generation() == held.token_generation);
            assert!(held.expires.is_none_or(|end| now < end));
            assert!(!held.rejected && !held.issuer_mismatch);
            assert!(!(held.suspect && held.can_refresh(now)));
        }
        TokenDecision::Fail(error) => {
            let (next, effects) = need();
            let lost = |state: &State| state.settled.as_ref().and_then(Settled::lost);
            if lost(&next) != lost(state) {
                return; // Its refresh token has ended, and no wake has said so yet.
            }
            assert_eq!(effects.start, None, "{error:?} is not kept in {state:?}");
            let TokenDecision::Fail(same) = token_decision(&next, newer_than, renewable, now)
            else {
                panic!("{error:?} is not kept in {next:?}")
            };
            assert_eq!(same.kind(), error.kind());
        }
        TokenDecision::Ask => {
            let (next, effects) = need();
            let none_left = |held: &CredentialState| !held.can_refresh(now) && !held.is_unsaved();
            let ended = next.settled.as_ref().and_then(|settled| settled.serving().map(none_left));
            let asks =
                matches!(token_decision(&next, newer_than, renewable, now), TokenDecision::Ask);
            assert!(effects.start.is_some() || !asks || ended == Some(true), "{next:?}");
        }
        TokenDecision::Load => {
            let (_, effects) = need();
            assert!(!state.is_busy() && effects.start.is_none_or(|start| start.is_load()));
        }
        TokenDecision::Wait => assert!(state.is_busy()),
    }
}

/// Invariant 7.
pub(super) fn assert_lost_only_for_a_reason(
    before: &State,
    input: &Input,
    after: &State,
    now: BootTime,
) {
    let lost = |state: &State| state.settled.as_ref().and_then(Settled::lost);
    let (None, Some(reason)) = (lost(before), lost(after)) else { return };
    if let Input::Loaded { settled, .. } = input {
        assert_eq!(settled.lost(), Some(reason));
        return;
    }
    let settled = before.settled.as_ref().expect("lost from nothing");
    let held = settled.serving().expect("lost without credentials");
    let ended = !held.can_refresh(now) && (held.rejected || held.is_expired(now))
        || held.refresh_expires.is_some_and(|end| now >= end);
    // Also by a single answer that is not understood, if many came before it and the first came
    // long ago.
    let enough_answers = held.unclassified.as_ref().is_some_and(|former| {
        former.answers + 1 >= 3 && now.since(former.since) >= seconds(60) && held.is_expired(now)
    });
    let failed = |failure: &Failure| match failure.class {
        Class::Rejected | Class::Refused => true,
        Class::Unclassified { .. } => enough_answers || held.rejected,
        Class::Harmless | Class::HeldBack | Class::Misconfigured | Class::Ambiguous(_) => false,
    };
    let allowed = match input {
        Input::Failed(failure) => {
            failed(failure) && matches!(before.running, Some(Run::Refresh { answer: None }))
        }
        Input::Dead { generation, .. } => held.generation == *generation,
        Input::Need { .. } | Input::Tick => ended,
        Input::Loaded { .. }
        | Input::LoadFailed { .. }
        | Input::Begin(_)
        | Input::NotBegun
        | Input::Forgotten
        | Input::ForgetFailed
        | Input::Issued(_)
        | Input::Challenged
        | Input::Saved { .. }
        | Input::Unsaved
        | Input::Conflict { .. }
        | Input::TokensSuperseded { .. }
        | Input::ExternalChange(_)
        | Input::Wrote { .. }
        | Input::Announced { .. }
        | Input::LossRecorded { .. }
        | Input::Suspected { .. }
        | Input::Left
        | Input::ClosedDurably { .. }
        | Input::CloseFailed
        | Input::Revoked
        | Input::RevocationFailed { .. }
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
            let was_closing = matches!(state.running, Some(Run::Close));
            let (name, input) = input.get(&inputs).clone();
            let (next, Effects { start, .. }) = step(state, input, &at);
            match start {
                None => {}
                Some(Start::Load(number)) => {
                    prop_assert!(!next.is_busy() && next.load.number == number, "{name}");
                    prop_assert!(next.load.running.is_some(), "{name}");
                }
                Some(Start::Restore) => prop_assert!(next.load.restored, "{name}"),
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
            let wake = next_wake(&after, &at.policy);
            let spins = wake.is_some_and(|wake| wake <= boot(NOW + passed));
            prop_assert!(after.is_busy() || !spins, "{name}: {after:?}");
            if let TokenDecision::Token(token) = token_decision(&next, sample::G, Renewable::Itself, at.now.boot) {
                prop_assert!(token.generation() > sample::G);
            }
            state = next;
        }
    }
}
