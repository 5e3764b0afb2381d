//! The replies of all processes, and the rules that they must keep in every run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::orders::{Answer, Deed, Handed, Outcome, Seen};

/// The history of a run. Clones share it.
#[derive(Clone, Default)]
pub struct History(Arc<Mutex<Book>>);

/// All entries, each kind in the order in which it was read.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// To orders.
    pub answers: Vec<Answer>,
    /// The statements of processes on the store.
    pub deeds: Vec<Deed>,
    /// The token requests that the server got.
    pub exchanges: Vec<Exchange>,
    /// The records that a reader beside the processes read.
    pub readings: Vec<Reading>,
    /// The kills and stops of processes.
    pub downs: Vec<Down>,
}

/// A token request. Tokens are hashes.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// When it arrived.
    pub at: u64,
    /// The user of a grant, or of the refresh token.
    pub key: String,
    /// The refresh token that came with it; none with a grant.
    pub sent: Option<String>,
    pub access: Option<String>,
    pub refresh: Option<String>,
    pub error: Option<String>,
}

/// A record, between when and when it was read.
#[derive(Clone, Debug)]
pub struct Reading {
    pub start: u64,
    pub end: u64,
    pub key: String,
    pub seen: Seen,
}

/// A process that was killed, or stopped and resumed.
#[derive(Clone, Copy, Debug)]
pub struct Down {
    /// [`Down::ALL`] for the store itself.
    pub pid: u32,
    pub from: u64,
    /// For ever, if it was killed.
    pub until: u64,
    /// It was stopped in the middle of a write: no other process can write until it is resumed.
    pub has_lock: bool,
}

impl Down {
    /// Stands for all processes.
    pub const ALL: u32 = 0;

    /// A failure of the store. It excuses no refresh token that is sent again.
    pub fn of_store(from: u64, until: u64) -> Self {
        Self { pid: Self::ALL, from, until, has_lock: false }
    }

    pub fn is_of_store(&self) -> bool {
        self.pid == Self::ALL
    }

    /// Whether this process could not do its work.
    pub fn is_of(&self, pid: u32) -> bool {
        self.pid == pid || self.is_of_store()
    }
}

impl History {
    pub fn add(&self, answer: &Answer) {
        self.0.lock().unwrap().answers.push(answer.clone());
    }

    pub fn did(&self, deed: Deed) {
        self.0.lock().unwrap().deeds.push(deed);
    }

    pub fn exchanged(&self, exchange: Exchange) {
        self.0.lock().unwrap().exchanges.push(exchange);
    }

    pub fn read(&self, reading: Reading) {
        self.0.lock().unwrap().readings.push(reading);
    }

    pub fn down(&self, down: Down) {
        self.0.lock().unwrap().downs.push(down);
    }

    pub fn answers(&self) -> Vec<Answer> {
        self.0.lock().unwrap().answers.clone()
    }

    pub fn book(&self) -> Book {
        self.0.lock().unwrap().clone()
    }

    /// Checks it.
    ///
    /// # Panics
    ///
    /// If a rule is broken, with the rule's message.
    pub fn check(&self) {
        let answers = self.answers();
        let faults = faults(&answers);
        assert!(faults.is_empty(), "{}\nof {answers:#?}", faults.join("\n"));
    }
}

impl Book {
    /// All that is known of one session, in the order of time.
    pub fn track(&self, key: &str) -> String {
        let mut lines = Vec::new();
        let of_key = self.answers.iter().filter(|answer| answer.key == key);
        lines.extend(of_key.map(|answer| {
            let Answer { pid, start, end, operation, outcome, .. } = answer;
            (*start, format!("-{end}: {pid} was asked for {operation:?}: {outcome:?}"))
        }));
        let of_key = self.deeds.iter().filter(|deed| deed.key == key);
        lines.extend(of_key.map(|deed| {
            let Deed { pid, start, end, what, .. } = deed;
            (*start, format!("-{end}: {pid} {what:?}"))
        }));
        let of_key = self.exchanges.iter().filter(|exchange| exchange.key == key);
        lines.extend(of_key.map(|exchange| (exchange.at, format!(": the server {exchange:?}"))));
        lines.extend(self.downs.iter().map(|down| (down.from, format!(": {down:?}"))));
        lines.sort();
        let lines = lines.into_iter().map(|(at, what)| format!("{at}{what}"));
        lines.collect::<Vec<_>>().join("\n")
    }
}

pub fn faults(answers: &[Answer]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut hashes: HashMap<(&str, u64, u64), &str> = HashMap::new();
    let mut newest: HashMap<(&str, u32), Vec<(u64, &Handed)>> = HashMap::new();
    for answer in answers {
        let Outcome::Token(token) = &answer.outcome else { continue };
        let (key, at) = (answer.key.as_str(), (token.epoch, token.generation));
        if *hashes.entry((key, at.0, at.1)).or_insert(&token.hash) != token.hash {
            faults.push(format!("{key} {at:?} is two tokens: {answer:?}"));
        }
        if token.works == Some(false) {
            faults.push(format!("{key} {at:?} is dead: {answer:?}"));
        }
        // Within a process, a call after the reply to another gets no older token.
        let before = newest.entry((key, answer.pid)).or_default();
        for (end, earlier) in before.iter() {
            if *end < answer.start && earlier.generation > token.generation {
                faults.push(format!("{key} went back from {earlier:?} to {answer:?}"));
            }
        }
        before.push((answer.end, token));
    }
    faults
}

mod tests {
    use super::*;
    use crate::processes::orders::Operation;

    fn answer(pid: u32, start: u64, generation: u64, hash: &str) -> Answer {
        let (epoch, works, hash) = (1, None, hash.to_owned());
        let outcome = Outcome::Token(Handed { epoch, generation, hash, works });
        let (operation, key) = (Some(Operation::Token), "device".to_owned());
        Answer { order: start, pid, start, end: start + 10, operation, key, outcome }
    }

    #[test]
    fn a_generation_that_goes_back_within_a_process_is_a_fault() {
        let (new, old) = (answer(1, 0, 2, "b"), |pid, start| answer(pid, start, 1, "a"));
        assert_eq!(faults(&[new.clone(), old(1, 20)]).len(), 1);
        assert_eq!(faults(&[new.clone(), old(1, 5)]), [""; 0], "they ran at once");
        assert_eq!(faults(&[new, old(2, 20)]), [""; 0], "another process may be behind");
    }

    #[test]
    fn one_generation_that_is_two_tokens_is_a_fault() {
        assert_eq!(faults(&[answer(1, 0, 2, "b"), answer(2, 20, 2, "b")]), [""; 0]);
        assert_eq!(faults(&[answer(1, 0, 2, "b"), answer(2, 20, 2, "c")]).len(), 1);
    }

    #[test]
    fn a_token_that_does_not_work_is_a_fault() {
        let mut dead = answer(1, 0, 1, "a");
        let Outcome::Token(token) = &mut dead.outcome else { unreachable!() };
        token.works = Some(false);
        assert_eq!(faults(&[dead]).len(), 1);
    }
}
