//! Several processes that work on the same sessions at once, and nothing is done to them.

use std::time::Duration;

use super::crowd::{Crowd, all_keys, is_restless};
use super::history::Book;
use super::orders::{Rotates, Took, USUAL};
use super::rules;

/// How long they work. Long enough for thousands of statements.
const TIME: Duration = Duration::from_secs(6);

/// Which a statement on the store may take, but for one in a hundred.
const BAR: Duration = Duration::from_millis(100);

/// The share in hundred that `part` of `values` are at most.
fn percentile(values: &[u64], share: usize) -> Duration {
    let mut values = values.to_vec();
    values.sort_unstable();
    let at = (values.len() * share / 100).min(values.len() - 1);
    Duration::from_micros(values[at])
}

/// None starves, whoever asks.
fn is_quick(name: &str, values: &[u64]) {
    let [half, most, all] = [50, 99, 100].map(|share| percentile(values, share));
    println!("{name}: {} statements, p50 {half:?}, p99 {most:?}, max {all:?}", values.len());
    assert!(most < BAR, "{name}: p99 is {most:?}");
}

fn are_quick(took: &[Took]) {
    let all = |of: fn(&Took) -> &Vec<u64>| took.iter().flat_map(of).copied().collect::<Vec<_>>();
    is_quick("reads", &all(|took| &took.reads));
    is_quick("writes", &all(|took| &took.writes));
}

/// None does far less than another.
fn share_fairly(counts: &[usize]) {
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(least * 3 >= *most, "some starve: {counts:?}");
}

async fn together(processes: usize, rotates: Rotates) {
    let mut crowd = Crowd::new(processes, rotates, (USUAL, Duration::ZERO), false).await;
    let pids = crowd.pids();
    crowd.calls(TIME, 1).await;
    crowd.settles().await;
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
    assert!(counts.refreshes > 5 * all_keys().len() as u64, "{counts:?}");
    are_quick(&took);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_ask_once_for_each_refresh_and_none_starves() {
    together(2, Rotates::Strict).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_processes_ask_once_for_each_refresh_and_none_starves() {
    together(4, Rotates::Strict).await;
}

mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_that_of_the_sorted_values() {
        let values: Vec<u64> = (1..=200).rev().collect();
        let micros = |share| percentile(&values, share).as_micros();
        assert_eq!((micros(50), micros(99), micros(100)), (101, 199, 200));
        assert_eq!(percentile(&[7], 99).as_micros(), 7);
    }

    #[test]
    #[should_panic = "p99 is 200ms"]
    fn a_store_that_is_slow_for_one_in_fifty_is_refused() {
        is_quick("it", &[vec![1_000; 98], vec![200_000; 2]].concat());
    }

    #[test]
    #[should_panic = "some starve"]
    fn a_process_that_does_a_quarter_of_another_is_refused() {
        share_fairly(&[100, 25]);
    }
}
