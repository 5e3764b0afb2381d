//! Several processes that work on the same sessions at once, without crashes.

use std::time::Duration;

use super::crowd::{Crowd, Plan, is_restless};
use super::database::StoreKind;
use super::history::Book;
use super::orders::{Rotates, Span, Took, USUAL};
use super::pulse::{Health, Pulse, unhindered};
use super::rules;

/// How long they work. Long enough for thousands of statements.
const TIME: Duration = Duration::from_secs(6);

/// Which a statement on the store may take, but for one in a hundred.
const BAR: Duration = Duration::from_millis(100);

/// What `share` in a hundred took at most.
fn percentile(spans: &[Span], share: usize) -> Duration {
    let mut took: Vec<_> = spans.iter().map(|span| span.length()).collect();
    took.sort_unstable();
    took[(took.len() * share / 100).min(took.len() - 1)]
}

fn figures(spans: &[Span]) -> String {
    let [half, most, all] = [50, 99, 100].map(|share| percentile(spans, share));
    format!("{} statements, p50 {half:?}, p99 {most:?}, max {all:?}", spans.len())
}

/// No process starves. Statements that ran while the machine stalled do not count, and on a machine
/// that is always late none do: a statement takes some five steps of its threads.
fn is_quick(name: &str, spans: &[Span], machine: &Health) {
    let (unhindered, late) = (unhindered(spans, &machine.stalls), machine.late);
    println!("{name}: {}", figures(spans));
    println!("the machine stalled {} times and was {late:?} late (p99)", machine.stalls.len());
    if unhindered.len() * 2 < spans.len() || late * 5 > BAR {
        println!("{name}: the machine has too much other work for them to be judged");
        return;
    }
    println!("{name}: without the stalls {}", figures(&unhindered));
    assert!(percentile(&unhindered, 99) < BAR, "{name}: {}", figures(&unhindered));
}

fn are_quick(took: &[Took], machine: &Health) {
    let all = |of: fn(&Took) -> &Vec<Span>| took.iter().flat_map(of).copied().collect::<Vec<_>>();
    is_quick("reads", &all(|took| &took.reads), machine);
    is_quick("writes", &all(|took| &took.writes), machine);
}

/// None does far less than another.
fn share_fairly(counts: &[usize]) {
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(least * 3 >= *most, "some starve: {counts:?}");
}

async fn together(store: StoreKind, processes: usize, rotates: Rotates) {
    let mut crowd =
        Crowd::new(Plan::new((store, processes), rotates, (USUAL, Duration::ZERO)).await).await;
    let pids = crowd.pids();
    let pulse = Pulse::start(crowd.folder.path());
    crowd.calls(TIME, 1).await;
    crowd.settles().await;
    let machine = pulse.ends().await;
    let took = crowd.ends().await;
    let (book, counts) = (crowd.history.book(), crowd.server.counts());
    let answers = |pid: &u32| book.answers.iter().filter(|answer| answer.pid == *pid).count();
    let answers: Vec<_> = pids.iter().map(answers).collect();
    println!(
        "{processes} processes: {answers:?} calls, {} refreshes, {} grants, {} revocations, at most {:?} behind",
        counts.refreshes,
        counts.password.granted,
        counts.revoke.granted,
        Duration::from_nanos(rules::farthest_behind(&book)),
    );
    holds(&book, &crowd);
    assert_eq!((counts.presented_twice, counts.reuses_detected, counts.grace_retries), (0, 0, 0));
    // Each key's tokens end after a second.
    assert!(counts.refreshes > 5 * crowd.all_keys().len() as u64, "{counts:?}");
    are_quick(&took, &machine);
    share_fairly(&answers);
    let writes: Vec<_> = took.iter().map(|took| took.writes.len()).collect();
    share_fairly(&writes);
}

fn holds(book: &Book, crowd: &Crowd) {
    let mut broken = rules::broken(book, crowd.waits());
    broken.extend(rules::unserved(book, is_restless));
    broken.extend(rules::exchanges_that_do_not_count(book));
    assert!(
        broken.is_empty(),
        "{} faults:\n{}",
        broken.len(),
        broken[..broken.len().min(20)].join("\n")
    );
}

on_each_store! {
    two_processes_ask_once_for_each_refresh_and_none_starves,
    four_processes_ask_once_for_each_refresh_and_none_starves,
}

async fn two_processes_ask_once_for_each_refresh_and_none_starves(store: StoreKind) {
    together(store, 2, Rotates::Strict).await;
}

async fn four_processes_ask_once_for_each_refresh_and_none_starves(store: StoreKind) {
    together(store, 4, Rotates::Strict).await;
}

mod tests {
    use super::*;

    fn spans(ms: impl IntoIterator<Item = u64>) -> Vec<Span> {
        ms.into_iter().map(|ms| Span { from: 0, until: ms * 1_000_000 }).collect()
    }

    #[test]
    fn a_percentile_is_that_of_the_sorted_values() {
        let spans = spans((1..=200).rev());
        let ms = |share| percentile(&spans, share).as_millis();
        assert_eq!((ms(50), ms(99), ms(100)), (101, 199, 200));
        assert_eq!(percentile(&spans[199..], 99).as_millis(), 1);
    }

    #[test]
    #[should_panic = "p99 200ms"]
    fn a_store_that_is_slow_for_one_in_fifty_is_refused() {
        let machine = Health { stalls: Vec::new(), late: Duration::from_millis(3) };
        is_quick("it", &spans([vec![1; 98], vec![200; 2]].concat()), &machine);
    }

    #[test]
    #[should_panic = "some starve"]
    fn a_process_that_does_a_quarter_of_another_is_refused() {
        share_fairly(&[100, 25]);
    }
}
