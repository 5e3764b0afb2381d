//! A bounded model of the protocol: every order in which a few processes, one store and one server
//! can act on one session. It runs the product's own `store::decide` and `machine::step`.
//!
//! **What is walked.** [`walk`] goes breadth first, from a session that all processes have loaded,
//! until it finds no new state. It tells states apart by a hash of 64 bits ([`key`]), for which
//! times count from now, and versions and claims by their order. Each process does at most one
//! refresh by hand, and the refreshes that callers ask for after a session came to be in doubt or a
//! token was rejected. In all there are at most one establish, one forget, one revoke, one
//! rejection by an API, one grant that ends at the server, and two faults. A fault is a crash, a
//! pause, a server's answer that is lost (before or after the server processed the request), a
//! statement that is done but whose answer is lost, or a wall clock that is set one hour ahead.
//!
//! **What is the product's.** `decide` decides statements, `machine::step` steps states,
//! `machine::token_decision` answers callers, `from_record::found` interprets records, and
//! `from_record::held` interprets the answers of the server. The code between these is async in the
//! product. The model copies it, one statement at a time: [`exchange`] mirrors `exchange::claim`,
//! `send` and `save`, [`ending`] mirrors `exchange::close`, `revocation` and `delete`, [`reads`]
//! mirrors `load` and `Context::news`, and [`act`] mirrors `Slot::apply`, `mark_lost` and the
//! claims of a slot.
//!
//! **What must hold** in every state ([`check`], [`sends`]): a refresh token is not sent again
//! while the first request may still reach the server, nor before its sender has been silent for
//! lease and hold or has waited out a lost answer, nor after the store knows how that request
//! ended; only the holder of a claim revokes at the server; no generation is used twice; no process
//! serves a token that it knows to be dead. And from every state, without further faults, a fair
//! scheduler leads to rest. At rest each process answers what the record says: its newest token,
//! `SignInAgain` or `NotEstablished`.
//!
//! **What is left out.** Time passes in steps of ten seconds, and only when all processes that are
//! not paused have done all their work. The hold is 20 s. A process takes its private steps just
//! before the statement that others can see ([`order`]). Tokens do not expire, slots are never
//! released, stores do not go back, and a load always succeeds. So the model cannot show three
//! faults of earlier versions: a slot that is unloaded between two calls, an external change of
//! unknown content, and end times that were read by a wrong clock.
//!
//! **Bounds.** A walk up to all bounds at once takes longer than the two minutes of a test. So CI
//! walks: establish, forget and revoke together without a fault; each of the five events (these
//! three, a rejection, a death) with one fault; two faults without an event; an establish with
//! answers of up to 50 s. `tests/long/model` walks the rest: each event with two faults, all events
//! with one, and three processes. All events with two faults were never walked.
//!
//! | walk of two processes | states | seconds (dev profile) |
//! |---|---|---|
//! | establish, forget, revoke | 333,000 | 16 |
//! | establish, a fault | 111,179 | 5 |
//! | forget, a fault | 36,217 | 1.4 |
//! | revoke, a fault | 76,518 | 4 |
//! | rejection, a fault | 37,802 | 1.7 |
//! | death, a fault | 72,265 | 3.6 |
//! | two faults | 149,974 | 7 |
//! | establish, slow answers | 1,386 | 0.1 |
//!
//! | long walk | states | seconds (release profile) |
//! |---|---|---|
//! | establish, forget, revoke, a fault | 12,535,807 | 213 |
//! | establish, two faults | 3,366,789 | 38 |
//! | forget, two faults | 745,883 | 6 |
//! | revoke, two faults | 1,644,322 | 16 |
//! | rejection, two faults | 988,865 | 10 |
//! | death, two faults | 1,714,919 | 18 |
//! | three processes, a fault | 236,987 | 5 |
//! | three processes, establish, forget | 2,571,417 | 51 |
//! | three processes, revoke | 61,551 | 1 |
//!
//! **Broken lines.** For the rows in plain words, that line of the product was broken by hand, the
//! walks were run in the order above, and the change was taken back. The rows with the name of a
//! [`Mutation`] are switches in the model's copy of the product, which
//! [`every_broken_line_is_found`] tries in each run. `R` is a refresh by a caller, `s` a step; the
//! number of the process follows.
//!
//! | broken | where | states | found by |
//! |---|---|---|---|
//! | a claim ignores `InDoubt` and backoff | `decide.rs` `claim_record`: `(true, Some(left))` | 1,650 | R0, s0 claims, s0 sends, the answer is lost, s0 settles; R1, s1 claims, s1 sends: sent while it is on its way |
//! | an external change is noted at rest only | `machine/external_change.rs` `note` | 75 | establish 0, s0 claims; revoke 1, s1 closes: 0 never loads it |
//! | a delete leaves no floor | `decide/without_claim.rs` `delete` | 1,191 | forget 0; establish 0: generation 1 begins again |
//! | a revocation needs no claim | `decide.rs` `claim_record`: `own` | 11,719 | revoke 0, the server's answer is lost; both wake after the backoff: revoked twice |
//! | a loss is not in the feed | `decide/without_claim.rs` `lose_session`: `news: None` | 8 | an API reports the death to 0: 1 serves for ever |
//! | a rejection is not remembered | `machine/settled.rs` `CredentialState::remember` | 53 | a clock is set, an API rejects 0's token, 0 loads: 0 serves for ever |
//! | a renewal does not lengthen | `decide.rs` `renew_lease` | 17,660 | R0, s0 sends, 10 s, pause 0, 10 s; R1, 20 s, R1 takes over: sent too early |
//! | a take-over does not hold | `decide.rs` `end_silent_claim`: `free` | 26,525 | R0's claim is written unanswered, 20 s; R1 loads `InDoubt`; R0 sends and is paused, 20 s; 1 takes over: sent too early |
//! | `ClaimInDoubt` | as above | 563 | as above |
//! | `ChangesAtRestOnly` | `Context::news` | 39 | R0, s0 claims; revoke 1, 0 gets the change: 0 serves it |
//! | `FloorIgnored` | `Record::vacant`, `decide/without_claim.rs` `restore_record` | 332 | R0 ends; forget 0; 1 restores the session |
//! | `RevokedUnclaimed` | `revocation::claim` | 11,782 | as above |
//! | `RejectedAgain` | `Slot::token_decision`, a slot that is unloaded at a conflict | 940 | R0's claim is written unanswered; an API rejects 1's token; 1 loads: 1 serves it |
//! | `DeathNotPassedOn` | `lose_session`, `settle_claim` | 4 | an API reports the death to 0: 1 serves for ever |
//! | `NoSendGuard` | `send.rs` `attempt`: `now > until` | 2,105 | R0, s0 claims, pause 0, 40 s; R1 takes over and sends; resume 0, which sends: sent too early |
//! | `TakeOverAtOnce` | `claim.rs` `take_over`: `holds` | 1,570 | R0, s0 sends, pause 0, 20 s; R1 takes over: sent too early |
//! | `NotRenewed` | `send.rs` `renew` | 140 | R0 sends, the answer takes 50 s; R1 at 40 s: used again without any fault |

#![cfg(feature = "testing")]

mod act;
mod check;
mod ending;
mod exchange;
mod key;
mod order;
mod product;
mod reads;
mod sends;
mod walk;
mod world;

use std::time::Duration;

use self::act::Model;
use self::walk::{Walked, trace, walk};
use self::world::{Left, Process, Server, Time, Tok, World, tok};
use crate::store::{
    Attempt, Claim, ClaimId, Commit, Ends, Floor, Found, Intent, Owner, Record, Statement, Write,
    decide,
};

/// One line of the protocol, broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
    /// A claim ignores `InDoubt`, or another process's `Retry-After`.
    ClaimInDoubt,
    /// An external change is dropped unless the session rests.
    ChangesAtRestOnly,
    /// A session that was forgotten begins again with its former generations.
    FloorIgnored,
    /// Every process revokes at the server without a claim.
    RevokedUnclaimed,
    /// A token that an API rejected is handed out again after a conflict.
    RejectedAgain,
    /// A loss that one process found is not passed on to the others.
    DeathNotPassedOn,
    /// A request is sent however old its claim is.
    NoSendGuard,
    /// A take-over does not wait for the hold.
    TakeOverAtOnce,
    /// A claim is not renewed while its request is open.
    NotRenewed,
}

/// The bounds of a walk.
#[derive(Clone, Copy, Debug)]
struct Limits {
    processes: usize,
    left: Left,
    /// How many refreshes each process does by hand.
    refreshes: u8,
    /// How long an answer may take.
    answer: Time,
    /// The most states, which bounds the memory and not the walk.
    states: usize,
}

/// One of each event, but no report of an API and no fault.
const ALL: Left = Left { establish: 1, forget: 1, revoke: 1, ..NOTHING };
const NOTHING: Left = Left { establish: 0, forget: 0, revoke: 0, reject: 0, dead: 0, faults: 0 };

const TWO: Limits =
    Limits { processes: 2, left: ALL, refreshes: 1, answer: product::TICK, states: 20_000_000 };

/// Longer than a claim's lease and the hold after it.
const SLOW: Time = 50;

fn seconds(seconds: Time) -> Duration {
    Duration::from_secs(seconds)
}

impl World {
    /// A session at rest, which all processes have loaded.
    fn new(model: &mut Model, limits: &Limits) -> Self {
        let first = tok(1, 1);
        let record = established(first);
        let processes =
            (0..limits.processes as u64).map(|p| Process::new(100 + p, limits.refreshes)).collect();
        let mut world = Self {
            now: 0,
            record,
            floor: Floor::default(),
            // No token is 0.
            server: Server(vec![None, Some(1)]),
            processes,
            requests: Vec::new(),
            sends: Vec::new(),
            spent: Vec::new(),
            newest: (1, first),
            left: limits.left,
            next: None,
            ids: 1000,
            broken: None,
        };
        for p in 0..limits.processes {
            model.request(&mut world, p, 0);
            model.load(&mut world, p);
            model.load(&mut world, p);
        }
        world
    }
}

/// The record of a session that a former process established.
fn established(credentials: Tok) -> Option<Record<Tok>> {
    let (intent, epoch, claim) = (Intent::Establish, 0, ClaimId(1));
    let now = product::instant(0, 0);
    let written = |record, statement| {
        let found = Found { record, floor: Floor::default() };
        match decide(found, &statement, now).write {
            Write::Put(record) | Write::PutLease(record) => Some(record),
            Write::Nothing | Write::Remove(_) => None,
        }
    };
    let (owner, lease) = (Owner(1), seconds(product::LEASE));
    let first = Claim {
        id: claim,
        replaces: None,
        owner,
        intent,
        epoch: None,
        generation: 0,
        lease,
        journal: false,
    };
    let record = written(None, Statement::Claim(first))?;
    let attempt = Attempt { base: 0, fence: record.fence, claim };
    let commit = Commit { intent, epoch, attempt, credentials, ends: Ends::default() };
    written(Some(record), Statement::Commit(commit))
}

/// Walks, and prints the result.
fn walk_and_print(name: &str, mutation: Option<Mutation>, limits: &Limits) -> Walked {
    let walked = walk(mutation, limits);
    let Walked { states, depth, took, fault, complete, .. } = &walked;
    let (took, whole) = (took.as_secs_f64(), if *complete { "complete" } else { "cut off" });
    println!("{name}: {states} states, depth {depth}, {took:.1} s, {whole}");
    if let Some((fault, way)) = fault {
        println!("{name}: {fault}\n{}{way:?}", trace(mutation, limits, way));
    }
    walked
}

fn assert_good(name: &str, limits: &Limits) {
    let walked = walk_and_print(name, None, limits);
    assert!(walked.complete && walked.fault.is_none(), "{name}");
}

#[test]
fn nothing_goes_wrong_between_two_processes() {
    assert_good("all without faults", &TWO);
    let one = [
        ("an establish", Left { establish: 1, ..NOTHING }),
        ("a forget", Left { forget: 1, ..NOTHING }),
        ("a revoke", Left { revoke: 1, ..NOTHING }),
        ("a rejection", Left { reject: 1, ..NOTHING }),
        ("a death", Left { dead: 1, ..NOTHING }),
    ];
    for (name, left) in one {
        let left = Left { faults: 1, ..left };
        assert_good(&format!("{name} and a fault"), &Limits { left, ..TWO });
    }
    assert_good("two faults", &Limits { left: Left { faults: 2, ..NOTHING }, ..TWO });
    let left = Left { establish: 1, ..NOTHING };
    assert_good("slow answers", &Limits { left, answer: SLOW, ..TWO });
}

#[test]
fn every_broken_line_is_found() {
    let with = |left| Limits { left, ..TWO };
    let fault = Left { faults: 1, ..NOTHING };
    let slow = Limits { answer: SLOW, ..with(NOTHING) };
    let mutations = [
        (Mutation::ClaimInDoubt, with(fault)),
        (Mutation::ChangesAtRestOnly, with(Left { revoke: 1, ..NOTHING })),
        (Mutation::FloorIgnored, with(Left { establish: 1, forget: 1, ..NOTHING })),
        (Mutation::RevokedUnclaimed, with(Left { revoke: 1, ..fault })),
        (Mutation::RejectedAgain, with(Left { reject: 1, ..fault })),
        (Mutation::DeathNotPassedOn, with(Left { dead: 1, ..NOTHING })),
        (Mutation::NoSendGuard, with(fault)),
        (Mutation::TakeOverAtOnce, with(fault)),
        (Mutation::NotRenewed, slow),
    ];
    for (mutation, limits) in mutations {
        let walked = walk_and_print(&format!("{mutation:?}"), Some(mutation), &limits);
        assert!(walked.fault.is_some(), "{mutation:?} is not found");
    }
}

#[test]
#[ignore = "long: see tests/long/model"]
fn nothing_goes_wrong_between_two_processes_with_two_faults() {
    let one = [
        ("a forget", Left { forget: 1, ..NOTHING }),
        ("a revoke", Left { revoke: 1, ..NOTHING }),
        ("an establish", Left { establish: 1, ..NOTHING }),
        ("a rejection", Left { reject: 1, ..NOTHING }),
        ("a death", Left { dead: 1, ..NOTHING }),
    ];
    for (name, left) in one {
        let left = Left { faults: 2, ..left };
        assert_good(&format!("{name} and two faults"), &Limits { left, ..TWO });
    }
}

#[test]
#[ignore = "long: see tests/long/model"]
fn nothing_goes_wrong_between_two_processes_that_do_all() {
    assert_good("all and a fault", &Limits { left: Left { faults: 1, ..ALL }, ..TWO });
}

#[test]
#[ignore = "long: see tests/long/model"]
fn nothing_goes_wrong_between_three_processes() {
    let three = Limits { processes: 3, ..TWO };
    assert_good("three and a fault", &Limits { left: Left { faults: 1, ..NOTHING }, ..three });
    let left = Left { establish: 1, forget: 1, ..NOTHING };
    assert_good("three, an establish and a forget", &Limits { left, ..three });
    let left = Left { revoke: 1, ..NOTHING };
    assert_good("three and a revoke", &Limits { left, ..three });
}
