//! Changes of other processes: they are noted, loaded when nothing runs, and never cost what this
//! process knows.

use super::super::settled::Damping;
use super::super::*;
use super::sample::*;
use crate::error::ErrorKind;

const NEED: Input = Input::Need { newer_than: 0, renewable: Renewable::No };

fn others(ends: bool) -> Input {
    Input::ExternalChange(external_change(ends))
}

fn loaded(read: u32, version: u64, settled: Settled) -> Input {
    Input::Loaded { read, version, settled }
}

fn load_failed(read: u32) -> Input {
    Input::LoadFailed { read, error: Error::new(ErrorKind::Store) }
}

/// The settled state of a record that was loaded just now.
fn recorded(held: CredentialState) -> Settled {
    Settled::Active(CredentialState { derived_at: Some(seconds(1)), ..held })
}

fn apply(state: State, input: Input) -> (State, Option<Start>) {
    let (state, effects) = step(state, input, &after(0));
    (state, effects.start)
}

/// The state with a noted change, and the load that it started.
fn changed(state: State, ends: bool) -> (State, u32) {
    let (state, start) = apply(state, others(ends));
    let Some(Start::Load(number)) = start else { panic!("it does not load: {state:?}") };
    (state, number)
}

fn is_unsaved(state: &State) -> bool {
    state.settled.as_ref().is_some_and(Settled::is_unsaved)
}

/// The change that is not loaded yet, even if its load runs.
fn unloaded_change(state: &State) -> Option<ExternalChange> {
    state.external_change.or(state.load.running.flatten())
}

fn served(state: &State) -> Option<u64> {
    serving(state, boot(NOW)).map(|held| held.generation)
}

fn held_of(state: &State) -> &CredentialState {
    match &state.settled {
        Some(Settled::Active(held) | Settled::InDoubt(held, _)) => held,
        other => panic!("no credentials: {other:?}"),
    }
}

#[test]
fn a_change_is_noted_in_every_state_and_loaded_at_once_if_nothing_runs_or_is_unsaved() {
    for (name, state) in states() {
        let free = !state.is_busy() && !is_unsaved(&state) && state.load_backoff.is_none();
        let reads = free && !state.is_unloaded() && state.load.running.is_none();
        let forgets_unloaded = state.is_unloaded() && state.load.running.is_none();
        for ends in [false, true] {
            let (next, effects) = step(state.clone(), others(ends), &after(0));
            let number = state.load.number + 1;
            assert_eq!(effects.start, reads.then_some(Start::Load(number)), "{name}");
            assert_eq!(effects.notifications, [], "{name}");
            assert_eq!(unloaded_change(&next).is_some(), !forgets_unloaded, "{name}");
            let (before, after) = (format!("{:?}", state.settled), format!("{:?}", next.settled));
            assert_eq!(before, after, "{name}: the settled state stays");
            assert_eq!(next.is_busy(), state.is_busy(), "{name}: the running work goes on");
        }
    }
}

#[test]
fn a_change_that_is_known_already_is_ignored() {
    for (name, state) in states() {
        for version in [0, V - 1, V] {
            let input =
                Input::ExternalChange(ExternalChange { version: Some(version), ends: true });
            let (next, effects) = step(state.clone(), input, &after(0));
            assert_eq!(effects, Effects::default(), "{name}");
            if !state.is_unloaded() {
                assert_eq!(format!("{next:?}"), format!("{state:?}"), "{name}");
            }
        }
    }
}

/// All inputs that may end this work.
fn ends_of(run: &Run) -> Vec<Input> {
    let failed = |class| Input::Failed(failure(class));
    match run {
        Run::Challenge { .. } => vec![],
        Run::Establish { .. } | Run::Refresh { .. } => vec![
            failed(Class::Harmless),
            failed(Class::Misconfigured),
            failed(Class::Rejected),
            failed(Class::Refused),
            failed(Class::Ambiguous(Retry::Late)),
            failed(Class::Unclassified { other_success_at: None }),
            Input::Challenged,
            Input::NotBegun,
            Input::Conflict { found: None },
            Input::Saved { version: V + 1, epoch: 2, generation: G + 1, suspect: false },
        ],
        Run::Close => vec![
            Input::CloseFailed,
            Input::Conflict { found: None },
            Input::ClosedDurably { version: V + 1, closed: closed(false) },
        ],
        Run::Forget => vec![Input::ForgetFailed],
        Run::Revoke => vec![
            Input::Revoked,
            Input::RevocationFailed { backoff: backoff(NOW + 9) },
            Input::Conflict { found: None },
        ],
    }
}

#[test]
fn a_change_during_an_exchange_is_loaded_after_every_end_of_it() {
    let two_later = ExternalChange { version: Some(V + 2), ends: false };
    for (name, state) in states() {
        let Some(run) = state.running.clone().filter(|_| state.is_busy()) else { continue };
        let (busy, start) = apply(state, Input::ExternalChange(two_later));
        assert_eq!(start, None, "{name}");
        for end in ends_of(&run) {
            let (next, start) = apply(busy.clone(), end.clone());
            if next.is_busy() || next.is_unloaded() || is_unsaved(&next) {
                assert_eq!(start, None, "{name}: {end:?}");
                continue;
            }
            assert_eq!(start, Some(Start::Load(next.load.number)), "{name}: {end:?}");
            assert!(
                next.external_change.is_none() && next.load.running.is_some(),
                "{name}: {end:?}"
            );
        }
    }
}

#[test]
fn a_change_during_unsaved_credentials_is_loaded_when_they_are_saved() {
    let unsaved = active(CredentialState { saved: Saved::Unsaved { attempts: 1 }, ..fresh() });
    let (state, start) = apply(unsaved, Input::ExternalChange(ExternalChange::UNKNOWN));
    assert_eq!((start, unloaded_change(&state)), (None, Some(ExternalChange::UNKNOWN)));
    let (state, start) = apply(state, Input::Unsaved);
    assert_eq!(start, None);
    let saved = Input::Saved { version: V + 1, epoch: 2, generation: G, suspect: false };
    let (state, start) = apply(state, saved);
    assert_eq!(start, Some(Start::Load(1)));
    assert_eq!(served(&state), Some(G));
}

#[test]
fn a_write_of_this_process_settles_only_changes_up_to_its_version() {
    let busy =
        running(Settled::Active(due()), Run::Refresh { answer: Some(held(NOW, (2, G + 1))) });
    let closing = running(Settled::Active(due()), Run::Close);
    for version in [V + 1, V + 2] {
        let external_change =
            Input::ExternalChange(ExternalChange { version: Some(version), ends: true });
        let saved = Input::Saved { version: V + 1, epoch: 2, generation: G + 1, suspect: false };
        let closed = Input::ClosedDurably { version: V + 1, closed: closed(false) };
        let ends = [
            (refreshing(due(), None), Input::Wrote { version: V + 1 }),
            (busy.clone(), saved),
            (closing.clone(), closed),
        ];
        for (state, end) in ends {
            let (state, _) = apply(state, external_change.clone());
            let (state, _) = apply(state, end.clone());
            assert_eq!(unloaded_change(&state).is_none(), version == V + 1, "{end:?}");
            assert_eq!(state.version, V + 1);
        }
    }
}

#[test]
fn a_session_that_another_process_ended_is_not_served_before_it_is_loaded() {
    for (name, state) in states() {
        let before = served(&state);
        let (changed, _) = apply(state.clone(), others(false));
        assert_eq!(served(&changed), before, "{name}: the token is served until the load");
        let (ended, start) = apply(state, others(true));
        assert_eq!(served(&ended), None, "{name}");
        let answer = token_decision(&ended, 0, Renewable::No, boot(NOW));
        assert!(!matches!(answer, TokenDecision::Token(_)), "{name}");
        if let Some(Start::Load(number)) = start {
            let (read, _) = apply(ended, loaded(number, V + 1, recorded(held(NOW, (2, G + 1)))));
            assert_eq!(served(&read), Some(G + 1), "{name}: it is loaded");
        }
    }
}

#[test]
fn a_failed_load_is_repeated_after_its_backoff_and_ends_nothing() {
    for ends in [false, true] {
        let (state, number) = changed(active(fresh()), ends);
        let (state, start) = apply(state, load_failed(number));
        assert_eq!(start, None);
        assert_eq!(served(&state), (!ends).then_some(G));
        let wake = next_wake(&state, &ahead(after(0)).policy);
        assert_eq!(wake, Some(boot(NOW + 1)));
        let (_, effects) =
            step(state.clone(), Input::Tick, &at(Duration::from_millis(NOW * 1000 + 999)));
        assert_eq!(effects.start, None);
        let (state, effects) = step(state, Input::Tick, &after(1));
        assert_eq!(effects.start, Some(Start::Load(number + 1)));
        let (state, effects) = step(state, load_failed(number + 1), &after(1));
        assert_eq!(effects.start, None);
        assert_eq!(next_wake(&state, &after(1).policy), Some(boot(NOW + 3)), "it backs off");
    }
}

#[test]
fn a_caller_that_needs_another_token_loads_first_or_gets_the_failed_load() {
    for held in [
        expired(),
        CredentialState { rejected: true, ..fresh() },
        CredentialState { suspect: true, ..fresh() },
    ] {
        let (state, number) = changed(active(held.clone()), false);
        assert!(matches!(
            token_decision(&state, 0, Renewable::Itself, boot(NOW)),
            TokenDecision::Load
        ));
        let (state, effects) = step(state, NEED, &after(0));
        assert_eq!(effects, Effects::default(), "nothing is started before it");
        let (failed, _) = apply(state.clone(), load_failed(number));
        let TokenDecision::Fail(error) = token_decision(&failed, 0, Renewable::Itself, boot(NOW))
        else {
            panic!("the load is not in backoff")
        };
        assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Store, Some(seconds(1))));
        assert_eq!(step(failed, NEED, &after(0)).1.start, None);
        let (state, _) = apply(state, loaded(number, V + 1, recorded(held)));
        assert_eq!(step(state, NEED, &after(0)).1.start, Some(Start::Refresh));
    }
    let (state, _) = changed(active(fresh()), false);
    assert!(
        matches!(token_decision(&state, G, Renewable::No, boot(NOW)), TokenDecision::Load),
        "a newer one"
    );
}

#[test]
fn a_load_that_began_before_other_work_does_not_count() {
    for what in [Start::Establish, Start::Adopt, Start::Close, Start::Forget] {
        let (state, number) = changed(active(fresh()), false);
        let (state, start) = apply(state, Input::Begin(what));
        assert_eq!(start, Some(what));
        let late = [loaded(number, V + 1, recorded(held(NOW, (4, 9)))), load_failed(number)];
        for late in late {
            let (next, start) = apply(state.clone(), late);
            assert_eq!(start, None);
            assert_eq!(format!("{next:?}"), format!("{state:?}"), "{what:?}");
        }
        assert_eq!(unloaded_change(&state), Some(external_change(false)), "it is not loaded yet");
    }
}

#[test]
fn of_two_loads_only_the_newest_counts() {
    let (mut state, former) = changed(active(fresh()), true);
    let newest = begin_load(&mut state);
    assert_eq!(newest, former + 1);
    for late in [loaded(former, V + 1, recorded(held(NOW, (4, 9)))), load_failed(former)] {
        let (next, _) = apply(state.clone(), late);
        assert_eq!(format!("{next:?}"), format!("{state:?}"));
        assert_eq!(served(&next), None, "the change is not loaded yet");
    }
    let (state, _) = apply(state, loaded(newest, V + 1, recorded(held(NOW, (4, 9)))));
    assert_eq!(served(&state), Some(9));
    let (next, _) = apply(state.clone(), loaded(newest, V + 2, vacant()));
    assert_eq!(format!("{next:?}"), format!("{state:?}"), "once");
}

#[test]
fn an_abandoned_load_leaves_its_change_to_the_next_load() {
    let (mut state, number) = changed(active(expired()), true);
    abandon_load(&mut state, number + 1);
    assert!(state.load.running.is_some(), "that was another load");
    abandon_load(&mut state, number);
    assert_eq!((state.load.running, state.external_change), (None, Some(external_change(true))));
    assert_eq!(next_wake(&state, &after(0).policy), Some(BootTime::default()), "at once");
    let (state, start) = apply(state, Input::Tick);
    assert_eq!(start, Some(Start::Load(number + 1)));
    assert_eq!(served(&state), None);
}

#[test]
fn a_change_during_a_load_leads_to_another_load_unless_the_answer_shows_it() {
    let shown = [(Some(V + 2), V + 2, true), (Some(V + 2), V + 3, true)];
    let hidden = [(Some(V + 2), V + 1, false), (None, V + 9, false)];
    for (version, answer, settles) in shown.into_iter().chain(hidden) {
        for ends in [false, true] {
            let (state, number) = changed(active(fresh()), false);
            let (state, start) =
                apply(state, Input::ExternalChange(ExternalChange { version, ends }));
            assert_eq!(start, None, "one load at a time");
            let record = recorded(held(NOW, (2, G + 1)));
            let (state, start) = apply(state, loaded(number, answer, record));
            let again = (!settles).then_some(Start::Load(number + 1));
            assert_eq!(start, again, "{version:?} in {answer}");
            assert_eq!(served(&state).is_some(), settles || !ends);
        }
    }
}

#[test]
fn a_store_that_went_back_is_restored_once_and_then_counts() {
    let older = || recorded(held(NOW, (2, G - 1)));
    for live in [active(fresh()), in_doubt(fresh(), retry_from(NOW + 60))] {
        let (state, number) = changed(live, false);
        let (state, start) = apply(state, loaded(number, V - 1, older()));
        assert_eq!(start, Some(Start::Restore));
        assert_eq!((served(&state), state.version), (Some(G), V), "the held token is still served");
        let (restored, _) = apply(state.clone(), Input::Wrote { version: V + 1 });
        assert!(!restored.load.restored, "the next older record is restored again");
        let (state, start) = apply(state, Input::ExternalChange(ExternalChange::UNKNOWN));
        assert_eq!(start, Some(Start::Load(number + 1)));
        let (state, start) = apply(state, loaded(number + 1, V - 1, older()));
        assert_eq!((start, served(&state), state.version), (None, Some(G - 1), V - 1));
    }
}

#[test]
fn nothing_is_restored_if_the_record_has_lost_nothing() {
    let as_new = || recorded(fresh());
    let older = || recorded(held(NOW, (2, G - 1)));
    let dead = || rest(Settled::Lost(lost(fresh(), LostReason::Rejected)));
    let cases = [
        (active(fresh()), V - 1, as_new()),
        (active(fresh()), V + 1, older()),
        (active(fresh()), V - 1, Settled::Closed(Closed { generation: G - 1, ..closed(false) })),
        (dead(), V - 1, older()),
    ];
    for (state, version, settled) in cases {
        let (state, number) = changed(state, false);
        let (state, start) = apply(state, loaded(number, version, settled.clone()));
        assert_eq!((start, state.version), (None, version), "{settled:?}");
        assert_eq!(state.counters(), settled.counters());
    }
}

#[test]
fn knowledge_of_this_process_survives_a_load_of_the_same_credentials() {
    let damping = Damping { since: boot(NOW - 1), span: seconds(10), accepted: false };
    let known = CredentialState {
        rejected: true,
        expiring: None,
        backoff: Some(backoff(NOW + 50)),
        damping: Some(Box::new(damping)),
        ..unclassified(fresh(), 2, 600)
    };
    for recorded_backoff in [None, Some(backoff(NOW + 5)), Some(backoff(NOW + 90))] {
        let record = recorded(CredentialState {
            backoff: recorded_backoff.clone(),
            ..held(NOW + 1, (2, G))
        });
        let (state, number) = changed(active(known.clone()), false);
        let (state, _) = apply(state, loaded(number, V + 1, record));
        let held = held_of(&state);
        assert!(held.rejected);
        assert_eq!(held.damping.as_deref(), Some(&damping));
        assert_eq!(held.unclassified, known.unclassified);
        assert_eq!(held.expiring, None, "the end was announced");
        let retry_at =
            recorded_backoff.map_or(boot(NOW + 50), |of| of.retry_at.max(boot(NOW + 50)));
        assert_eq!(held.backoff.as_ref().map(|backoff| backoff.retry_at), Some(retry_at));
    }
}

#[test]
fn knowledge_of_this_process_is_not_kept_for_other_credentials() {
    let known = CredentialState { rejected: true, expiring: None, backoff: cooling(), ..fresh() };
    for counters in [(2, G + 1), (3, G), (2, G - 1)] {
        let (state, number) = changed(active(known.clone()), false);
        let (state, _) = apply(state, loaded(number, V + 1, recorded(held(NOW, counters))));
        let held = held_of(&state);
        assert!(!held.rejected && held.backoff.is_none() && held.expiring.is_some());
    }
}

#[test]
fn a_lost_session_keeps_its_cause() {
    let cause = Error::new(ErrorKind::RetryLater).about("of a sample");
    let known = Lost { cause: Some(cause), ..lost(fresh(), LostReason::Rejected) };
    let (state, number) = changed(rest(Settled::Lost(known)), false);
    let record = Settled::Lost(lost(fresh(), LostReason::Rejected));
    let (state, _) = apply(state, loaded(number, V + 1, record));
    assert!(state.cause().is_some());
}

#[test]
fn times_of_an_answer_stay_and_times_of_a_record_are_derived_anew() {
    let times =
        |held: &CredentialState| (held.due, held.expires, held.refresh_expires, held.expiring);
    let later = || {
        Settled::Active(CredentialState { derived_at: Some(seconds(9)), ..held(NOW + 7, (2, G)) })
    };
    let (state, number) = changed(active(fresh()), false);
    let (state, _) = apply(state, loaded(number, V + 1, later()));
    assert_eq!(times(held_of(&state)), times(&fresh()));
    assert_eq!(held_of(&state).derived_at, None, "no clock that is set moves them");
    let of_record = CredentialState { derived_at: Some(seconds(1)), ..fresh() };
    let (state, number) = changed(active(of_record), false);
    let (state, _) = apply(state, loaded(number, V + 1, later()));
    assert_eq!(times(held_of(&state)), times(&held(NOW + 7, (2, G))));
    assert_eq!(held_of(&state).derived_at, Some(seconds(9)));
}

#[test]
fn a_conflict_ends_the_running_work_and_keeps_the_settled_state() {
    for (name, state) in states() {
        let (next, effects) = step(state.clone(), Input::Conflict { found: None }, &after(0));
        assert!(!next.is_busy(), "{name}");
        assert_eq!(effects.notifications, [], "{name}");
        let (before, after) = (format!("{:?}", state.settled), format!("{:?}", next.settled));
        assert_eq!(before, after, "{name}");
        let unknown = next.is_unloaded();
        assert_eq!(unloaded_change(&next).is_some(), !unknown, "{name}");
    }
}
