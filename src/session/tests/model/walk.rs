//! The walk: breadth first, until no state is new.

use std::collections::{HashSet, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use super::act::{Action, Model};
use super::world::World;
use super::{Limits, Mutation};
use crate::clock::{Clock, SystemClock};

/// What a walk found.
pub(super) struct Walked {
    pub(super) states: usize,
    pub(super) depth: usize,
    pub(super) took: Duration,
    /// The broken rule, and the actions that led to it.
    pub(super) fault: Option<(String, Vec<Action>)>,
    /// Whether the walk found all states.
    pub(super) complete: bool,
}

pub(super) fn walk(mutation: Option<Mutation>, limits: &Limits) -> Walked {
    let (clock, mut model) = (SystemClock::new(), Model::new(mutation, limits));
    let start = clock.now().monotonic;
    let first = World::new(&mut model, limits);
    let mut seen = HashSet::from([first.key()]);
    let mut live = HashSet::new();
    let mut ways: Vec<(usize, Option<Action>)> = vec![(0, None)];
    let mut queue = VecDeque::from([(first, 0, 0)]);
    let mut walked =
        Walked { states: 0, depth: 0, took: Duration::ZERO, fault: None, complete: true };
    while let Some((world, index, depth)) = queue.pop_front() {
        walked.depth = depth;
        let fault = model.broken(&world);
        let fault = fault.or_else(|| model.ends_well(&world, &mut live).err());
        if let Some(fault) = fault {
            walked.fault = Some((fault, way_to(&ways, index)));
            break;
        }
        if ways.len() >= limits.states {
            walked.complete = false;
            break;
        }
        for action in model.actions(&world) {
            let Some(next) = model.act(&world, action) else { continue };
            if seen.insert(next.key()) {
                ways.push((index, Some(action)));
                queue.push_back((next, ways.len() - 1, depth + 1));
            }
        }
    }
    walked.states = ways.len();
    walked.took = clock.now().monotonic.saturating_sub(start);
    walked
}

fn way_to(ways: &[(usize, Option<Action>)], mut index: usize) -> Vec<Action> {
    let mut way = Vec::new();
    while let (former, Some(action)) = ways[index] {
        way.push(action);
        index = former;
    }
    way.reverse();
    way
}

/// A trace with the worlds that it leads through.
pub(super) fn trace(mutation: Option<Mutation>, limits: &Limits, way: &[Action]) -> String {
    let mut model = Model::new(mutation, limits);
    let mut world = World::new(&mut model, limits);
    let mut text = String::new();
    for action in way {
        if let Some(next) = model.act(&world, *action) {
            world = next;
        }
        writeln!(text, "{action:?}\n    {}", model.describe(&world)).unwrap();
    }
    text
}
