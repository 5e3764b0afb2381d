//! The result of every input in every state: all pairs of samples, compared with a table that a
//! reviewer can read.

use super::super::*;
use super::sample;

/// The result of every input in every state. Inputs that are not named change nothing, start
/// nothing and publish nothing.
///
/// Below each state stand inputs and, indented further, their result. `active 2.7` has epoch 2 and
/// generation 7; a failure is followed by the wait and the number of tries. The state in `over
/// [...]` is still served. After `; ` stand the version of the record, if it is not 20, the running
/// load, and the change that is not loaded.
const TABLE: &str = include_str!("golden.txt");

#[test]
fn every_state_answers_every_input_as_the_table_says() {
    let (states, inputs) = (sample::states(), sample::inputs());
    let mut pairs = 0;
    let mut actual = String::new();
    for (name, state) in &states {
        actual.push_str(&format!("{name}\n"));
        for (inputs, outcome) in outcomes(state, &inputs) {
            pairs += inputs.len();
            if outcome != STAYS {
                actual.push_str(&format!("    {}\n        {outcome}\n", inputs.join(", ")));
            }
        }
    }
    assert_eq!(pairs, states.len() * inputs.len(), "every pair was tried");
    if let Some((line, (is, should))) = first_difference(&actual, TABLE) {
        panic!("line {line} of the table says\n{should}\nthe machine\n{is}\nin all\n{actual}");
    }
}

#[test]
fn the_samples_have_every_variant_and_differ_in_name() {
    let states = sample::states();
    let inputs = sample::inputs();
    let variant = |debug: String| debug.split([' ', '(', '{']).next().unwrap().to_owned();
    let of = |debugs: Vec<String>| {
        debugs.into_iter().map(variant).collect::<std::collections::BTreeSet<_>>()
    };
    let runs = states.iter().filter_map(|(_, state)| state.running.as_ref());
    let kinds = of(runs.map(|run| format!("{run:?}")).collect());
    assert_eq!(kinds.len(), 6, "{kinds:?}");
    let settled = states.iter().filter_map(|(_, state)| state.settled.as_ref());
    assert_eq!(of(settled.map(|settled| format!("{settled:?}")).collect()).len(), 5);
    let kinds = of(inputs.iter().map(|(_, input)| format!("{input:?}")).collect());
    assert_eq!(kinds.len(), 30, "{kinds:?}");
    let names: std::collections::BTreeSet<_> = states.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), states.len());
}

const STAYS: &str = "stays";

/// The inputs with the same outcome together, in the order of their first.
fn outcomes(state: &State, inputs: &[(&'static str, Input)]) -> Vec<(Vec<&'static str>, String)> {
    let mut outcomes: Vec<(Vec<_>, String)> = Vec::new();
    for (name, input) in inputs {
        let outcome = outcome(state, input);
        match outcomes.iter_mut().find(|(_, known)| *known == outcome) {
            Some((names, _)) => names.push(*name),
            None => outcomes.push((vec![*name], outcome)),
        }
    }
    outcomes
}

fn outcome(state: &State, input: &Input) -> String {
    let before = format!("{state:?}");
    let (next, Effects { start, notifications }) =
        step(state.clone(), input.clone(), &sample::after(0));
    let stays = format!("{next:?}") == before;
    let mut outcome = if stays { STAYS.to_owned() } else { format!("-> {}", describe(&next)) };
    if let Some(start) = start {
        outcome.push_str(&format!("; starts {start:?}"));
    }
    for notification in notifications {
        outcome.push_str(&format!("; publishes {notification:?}"));
    }
    outcome
}

fn describe(state: &State) -> String {
    let answered = |answer: &Option<CredentialState>| {
        answer.as_ref().map_or(String::new(), |held| format!(", answered {}", of_held(held)))
    };
    let settled = match &state.settled {
        None => format!("unloaded{}", of_backoff(&state.load_backoff)),
        Some(settled) => of_settled(settled),
    };
    let running = match &state.running {
        None => settled,
        Some(Run::Challenge { .. }) => format!("challenged over [{settled}]"),
        Some(Run::Establish { renewal, answer }) => {
            let renewal = if *renewal { ", renewal" } else { "" };
            format!("establishing over [{settled}]{renewal}{}", answered(answer))
        }
        Some(Run::Refresh { answer }) => {
            let settled = match &state.settled {
                Some(Settled::Active(held) | Settled::Lost(Lost { held: Some(held), .. })) => {
                    of_held(held)
                }
                Some(Settled::InDoubt(held, in_doubt)) => of_held(held) + &of_in_doubt(in_doubt),
                _ => settled,
            };
            format!("refreshing [{settled}]{}", answered(answer))
        }
        Some(Run::Close) => format!("closing [{settled}]"),
        Some(Run::Forget) => format!("forgetting [{settled}]"),
        Some(Run::Revoke) => format!("revoking {}", state.counters().1),
    };
    running + &of_load(state)
}

/// The version of the record, if it differs from the samples', and the state of its load.
fn of_load(state: &State) -> String {
    let mut text = String::new();
    if !state.is_unloaded() && state.version != sample::V {
        text.push_str(&format!("; version {}", state.version));
    }
    if let Some(external_change) = state.load.running {
        let external_change = external_change.map_or_else(String::new, |external_change| {
            format!(" for {}", of_change(external_change))
        });
        text.push_str(&format!("; loading{external_change}"));
    }
    if let Some(external_change) = state.external_change {
        text.push_str(&format!("; {}", of_change(external_change)));
    }
    if let Some(load_backoff) = state.load_backoff.as_ref().filter(|_| !state.is_unloaded()) {
        text.push_str(&format!("; load failed{}", of_backoff(&Some(load_backoff.clone()))));
    }
    if state.load.restored {
        text.push_str("; restored");
    }
    text
}

fn of_change(external_change: ExternalChange) -> String {
    let version = external_change.version.map_or_else(String::new, |version| format!(" {version}"));
    let ends = if external_change.ends { " that ends" } else { "" };
    format!("change{version}{ends}")
}

fn of_settled(settled: &Settled) -> String {
    match settled {
        Settled::Vacant { backoff } => format!("vacant{}", of_backoff(backoff)),
        Settled::Active(held) => format!("active {}", of_held(held)),
        Settled::InDoubt(held, in_doubt) => {
            format!("in doubt {}{}", of_held(held), of_in_doubt(in_doubt))
        }
        Settled::Lost(Lost { generation, reason, held, backoff, recorded, .. }) => {
            let rejected = held.as_ref().is_some_and(|held| held.rejected);
            let rejected = if rejected { ", rejected" } else { "" };
            let issuer_mismatch = held.as_ref().is_some_and(|held| held.issuer_mismatch);
            let issuer_mismatch = if issuer_mismatch { ", issuer mismatch" } else { "" };
            let held = held.as_ref().filter(|_| *reason == LostReason::Unclassified);
            let held = held.map(|held| format!(" [{}]", of_held(held))).unwrap_or_default();
            let recorded = if *recorded { "" } else { ", not recorded" };
            let flags = format!("{rejected}{issuer_mismatch}{recorded}");
            format!("lost {generation} {reason:?}{flags}{held}{}", of_backoff(backoff))
        }
        Settled::Closed(Closed { generation, outbox, backoff, unrenewed, .. }) => {
            let outbox = if outbox.is_some() { ", to be revoked" } else { "" };
            format!("closed {generation}{outbox}{}{}", of_backoff(backoff), of_backoff(unrenewed))
        }
    }
}

fn of_held(held: &CredentialState) -> String {
    let mut text = format!("{}.{}", held.epoch, held.generation);
    for (is, flag) in [
        (held.suspect, "suspect"),
        (held.rejected, "rejected"),
        (held.issuer_mismatch, "issuer mismatch"),
    ] {
        if is {
            text.push_str(&format!(", {flag}"));
        }
    }
    if let Saved::Unsaved { attempts } = held.saved {
        text.push_str(&format!(", unsaved {attempts}"));
    }
    if let Some(Unclassified { answers, lost, retry_at, .. }) =
        held.unclassified.as_deref().copied()
    {
        text.push_str(&format!(", not understood {answers}"));
        if lost {
            let wait = retry_at.since(sample::boot(sample::NOW)).as_secs();
            text.push_str(&format!(", lost for {wait} s"));
        }
    }
    if let Some(damping) = &held.damping {
        let accepted = if damping.accepted { ", accepted" } else { "" };
        text.push_str(&format!(", damped {} s{accepted}", damping.span.as_secs()));
    }
    text + &of_backoff(&held.backoff)
}

fn of_backoff(backoff: &Option<BackoffState>) -> String {
    match backoff {
        Some(BackoffState { tries, retry_at, error, .. }) => {
            let wait = retry_at.since(sample::boot(sample::NOW)).as_secs();
            format!(", {:?} for {wait} s after {tries}", error.kind())
        }
        None => String::new(),
    }
}

fn of_in_doubt(in_doubt: &InDoubt) -> String {
    let now = sample::boot(sample::NOW);
    let retry_early = if in_doubt.retry_early { ", retry early" } else { "" };
    let (wait, floor) =
        (in_doubt.retry_at.since(now).as_secs(), in_doubt.floor.since(now).as_secs());
    format!(", retry in {wait} s (floor {floor} s) after {}{retry_early}", in_doubt.tries)
}

fn first_difference<'t>(is: &'t str, should: &'t str) -> Option<(usize, (&'t str, &'t str))> {
    let longest = is.lines().count().max(should.lines().count());
    let end = std::iter::repeat("(the end)");
    let pairs = is.lines().chain(end.clone()).zip(should.lines().chain(end)).take(longest);
    pairs.enumerate().map(|(line, pair)| (line + 1, pair)).find(|(_, (is, should))| is != should)
}
