//! The rules that the history of every run must keep. Each rule says what is wrong.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::history::{Book, Down, Exchange, faults};
use super::orders::{Answer, Did, Handed, Outcome, Waits};

#[cfg(test)]
mod tests;

/// How far one process may be behind another.
const BEHIND: u64 = 1_000_000_000;

/// How late a process may notice that a claim is over: a waiting process checks twice a second, and
/// the machine has other work.
const NOTICED: u64 = 1_500_000_000;

/// How soon after a stop a call may join an exchange that began before, and fail with it.
const JOINED: u64 = 500_000_000;

/// All rules that hold in every run.
pub fn broken(book: &Book, waits: Waits) -> Vec<String> {
    let rules = [
        faults(&answers_of_the_record(book)),
        generations_that_go_down(book),
        answers_that_are_behind(book),
        tokens_sent_again(book),
        tokens_not_saved(book),
        claims_that_rest(book, waits),
        losses_without_rejection(book),
        tokens_of_others(book),
        failures(book),
    ];
    rules.into_iter().flatten().collect()
}

/// A record had these counters, as a process or reader saw between two times.
struct Known<'b> {
    start: u64,
    end: u64,
    key: &'b str,
    generation: u64,
    /// The access token of it, where that is known.
    token: Option<&'b str>,
    /// Whether it is read from the store, and not only remembered.
    read: bool,
}

/// The counters that were read from the store.
fn stored(book: &Book) -> Vec<Known<'_>> {
    let deeds = book.deeds.iter().filter_map(|deed| {
        let (generation, token, read) = match &deed.what {
            Did::Stored { generation, token, .. } => (*generation, Some(&**token), false),
            Did::Saw(seen) => (seen.generation, seen.token.as_deref(), true),
            Did::Closed { generation } => (*generation, None, false),
            Did::Claimed { .. } | Did::Superseded { .. } | Did::Ended { .. } | Did::Owes => {
                return None;
            }
        };
        let (start, end, key) = (deed.start, deed.end, &*deed.key);
        Some(Known { start, end, key, generation, token, read })
    });
    let readings = book.readings.iter().map(|reading| {
        let (generation, token) = (reading.seen.generation, reading.seen.token.as_deref());
        let (start, end, key) = (reading.start, reading.end, &*reading.key);
        Known { start, end, key, generation, token, read: true }
    });
    deeds.chain(readings).collect()
}

/// Each token that was handed out, and whether it was reported as unsaved.
fn handed(book: &Book) -> impl Iterator<Item = (&Answer, &Handed, bool)> {
    let owes: Vec<_> = book.deeds.iter().filter(|deed| deed.what == Did::Owes).collect();
    book.answers.iter().filter_map(move |answer| {
        let Outcome::Token(token) = &answer.outcome else { return None };
        let owed = owes.iter().any(|deed| {
            let same = (deed.pid, &deed.key) == (answer.pid, &answer.key);
            same && deed.end <= answer.end
        });
        Some((answer, token, owed))
    })
}

/// The answers without those tokens that never got into the store, and were reported as unsaved. If
/// their process was killed, another one has given their generation to other tokens.
fn answers_of_the_record(book: &Book) -> Vec<Answer> {
    let saved: HashSet<_> = stored(book)
        .into_iter()
        .filter_map(|known| Some((known.key, known.generation, known.token?)))
        .collect();
    let unsaved: HashSet<_> = handed(book)
        .filter(|(answer, token, owed)| {
            *owed && !saved.contains(&(&*answer.key, token.generation, &*token.hash))
        })
        .map(|(answer, ..)| (answer.pid, answer.order))
        .collect();
    let of_record = book.answers.iter().filter(|one| !unsaved.contains(&(one.pid, one.order)));
    of_record.cloned().collect()
}

/// By key, in the order of time.
fn by_key<'b, T>(
    all: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> &'b str,
    time: impl Fn(&T) -> u64,
) -> BTreeMap<&'b str, Vec<T>> {
    let mut map: BTreeMap<&str, Vec<T>> = BTreeMap::new();
    for one in all {
        map.entry(key(&one)).or_default().push(one);
    }
    map.values_mut().for_each(|of_key| of_key.sort_by_key(&time));
    map
}

/// I1 and the end of I4: once the store has had a generation, or a process has handed one out, no
/// later read of the store finds an older one.
pub fn generations_that_go_down(book: &Book) -> Vec<String> {
    let mut ends = stored(book);
    let tokens = handed(book).filter(|(_, _, owed)| !owed).map(|(answer, token, _)| Known {
        start: answer.start,
        end: answer.end,
        key: &answer.key,
        generation: token.generation,
        token: None,
        read: false,
    });
    ends.extend(tokens);
    let reads = by_key(stored(book).into_iter().filter(|known| known.read), |k| k.key, |k| k.start);
    let ends = by_key(ends, |known| known.key, |known| known.end);
    let mut faults = Vec::new();
    for (key, reads) in reads {
        let mut before = ends[key].iter().peekable();
        let mut newest = 0;
        for read in reads {
            while let Some(known) = before.next_if(|known| known.end < read.start) {
                newest = newest.max(known.generation);
            }
            if read.generation < newest {
                let (found, at) = (read.generation, read.start);
                faults.push(format!("{key} was at {newest}, and the store has {found} at {at}"));
            }
        }
    }
    faults
}

/// I2 between processes: a process knows what was stored a second ago, not counting the time in
/// which it was stopped.
pub fn answers_that_are_behind(book: &Book) -> Vec<String> {
    let stored = by_key(stored(book), |known| known.key, |known| known.end);
    let mut faults = Vec::new();
    for (answer, token, _) in handed(book) {
        let known_by = ran_since(&book.downs, answer.pid, answer.start, BEHIND);
        let known = stored.get(&*answer.key).into_iter().flatten();
        let newest = known.take_while(|known| known.end < known_by).map(|known| known.generation);
        if let Some(newest) = newest.max().filter(|newest| *newest > token.generation) {
            faults.push(format!("{newest} was stored for a second before {answer:?}"));
        }
    }
    faults
}

/// How far behind another process one was at most, in nanoseconds, not counting stops.
pub fn farthest_behind(book: &Book) -> u64 {
    let stored = by_key(stored(book), |known| known.key, |known| known.end);
    let behind = handed(book).filter_map(|(answer, token, _)| {
        let mut known = stored.get(&*answer.key).into_iter().flatten();
        let newer = known.find(|known| known.generation > token.generation)?;
        let stopped = stopped(&book.downs, answer.pid, newer.end, answer.start);
        answer.start.checked_sub(newer.end)?.checked_sub(stopped)
    });
    behind.max().unwrap_or(0)
}

/// The time since when a process has run for so long at `at`.
fn ran_since(downs: &[Down], pid: u32, at: u64, ran: u64) -> u64 {
    let mut since = at.saturating_sub(ran);
    let mut of_process: Vec<_> = downs.iter().filter(|down| down.is_of(pid)).collect();
    of_process.sort_by_key(|down| std::cmp::Reverse(down.from));
    for down in of_process {
        if down.until > since && down.from < at {
            since = since.saturating_sub(down.until.min(at) - down.from);
        }
    }
    since
}

fn stopped(downs: &[Down], pid: u32, from: u64, until: u64) -> u64 {
    let of_process = downs.iter().filter(|down| down.is_of(pid));
    of_process.map(|down| down.until.min(until).saturating_sub(down.from.max(from))).sum()
}

/// I3: a refresh token is sent once, unless the process that sent it first was killed or stopped,
/// or does not know the result, or no process could write the result.
pub fn tokens_sent_again(book: &Book) -> Vec<String> {
    let generations = generations(book);
    let mut sent: HashMap<&str, &Exchange> = HashMap::new();
    let mut faults = Vec::new();
    for exchange in &book.exchanges {
        let Some(token) = exchange.sent.as_deref() else { continue };
        if let Some(first) = sent.insert(token, exchange)
            && !is_excused(book, first, exchange, generations.get(token).copied())
        {
            faults.push(format!("sent again: {first:?} and {exchange:?}"));
        }
    }
    faults
}

/// The generations of refresh tokens, as far as their access tokens were seen.
fn generations(book: &Book) -> HashMap<&str, u64> {
    let seen = stored(book).into_iter().filter_map(|known| Some((known.token?, known.generation)));
    let seen: HashMap<&str, u64> = seen.collect();
    let issued = book.exchanges.iter().filter_map(|exchange| {
        let generation = seen.get(exchange.access.as_deref()?)?;
        Some((exchange.refresh.as_deref()?, *generation))
    });
    issued.collect()
}

fn is_excused(book: &Book, first: &Exchange, again: &Exchange, generation: Option<u64>) -> bool {
    let down = |pid: Option<u32>, from| {
        book.downs.iter().any(|down| {
            let its = if let Some(pid) = pid { down.pid == pid } else { down.has_lock };
            its && down.from <= again.at && down.until >= from
        })
    };
    // Whoever may have sent the first: it had claimed the session, and had not ended that.
    let claims = book.deeds.iter().filter_map(|deed| {
        let Did::Claimed { base, fence } = deed.what else { return None };
        let may_be = deed.key == first.key && deed.start <= first.at;
        (may_be && generation.is_none_or(|generation| generation == base)).then_some((deed, fence))
    });
    let mut open = claims.filter_map(|(claim, fence)| {
        let end = book.deeds.iter().find_map(|deed| {
            let of = match deed.what {
                Did::Stored { fence, .. } | Did::Superseded { fence } => Some((fence, false)),
                Did::Ended { fence, in_doubt } => Some((fence, in_doubt)),
                Did::Claimed { .. } | Did::Saw(_) | Did::Closed { .. } | Did::Owes => None,
            };
            let (of, in_doubt) = of?;
            let its = (deed.pid, &deed.key, of) == (claim.pid, &claim.key, fence);
            its.then_some((deed.end, in_doubt))
        });
        let was_open = end.is_none_or(|(end, _)| end >= first.at);
        was_open.then_some((claim, end.is_some_and(|(_, in_doubt)| in_doubt)))
    });
    open.any(|(claim, in_doubt)| in_doubt || down(Some(claim.pid), claim.start))
        || down(None, first.at)
}

/// I4: every token that is handed out is in the store, or was reported as unsaved.
pub fn tokens_not_saved(book: &Book) -> Vec<String> {
    let mut since: HashMap<(&str, u64, &str), u64> = HashMap::new();
    for known in stored(book) {
        if let Some(token) = known.token {
            let at = since.entry((known.key, known.generation, token)).or_insert(u64::MAX);
            *at = known.start.min(*at);
        }
    }
    let unsaved = handed(book).filter(|(answer, token, owed)| {
        let saved = since.get(&(&*answer.key, token.generation, &*token.hash));
        !owed && saved.is_none_or(|since| *since > answer.end)
    });
    unsaved.map(|(answer, ..)| format!("handed out and not saved: {answer:?}")).collect()
}

/// I5: a claim is over after its lease and the grace, not counting the time in which no process
/// could write that.
pub fn claims_that_rest(book: &Book, waits: Waits) -> Vec<String> {
    let claimed = book.readings.iter().filter(|reading| reading.seen.claimed);
    let mut spans: BTreeMap<(&str, u64), (u64, u64)> = BTreeMap::new();
    for reading in claimed {
        let span = spans.entry((&reading.key, reading.seen.fence));
        span.or_insert((reading.end, reading.start)).1 = reading.start;
    }
    let limit = u64::try_from((waits.lease + waits.hold).as_nanos()).unwrap() + NOTICED;
    let mut faults = Vec::new();
    for ((key, fence), (from, until)) in spans {
        let locked = book.downs.iter().filter(|down| down.has_lock || down.is_of_store());
        let locked = locked.map(|down| down.until.min(until).saturating_sub(down.from.max(from)));
        let rested = until.saturating_sub(from).saturating_sub(locked.sum());
        if rested > limit {
            faults.push(format!("claim {fence} of {key} rested for {rested} ns"));
        }
    }
    faults
}

/// I6: a session is lost when the server has rejected its refresh token, and not before.
pub fn losses_without_rejection(book: &Book) -> Vec<String> {
    let rejected = |key: &str, by: u64| {
        book.exchanges.iter().any(|exchange| {
            let rejected = exchange.error.as_deref() == Some("invalid_grant");
            rejected && exchange.key == key && exchange.at <= by
        })
    };
    let told = book.answers.iter().filter_map(|answer| {
        let kind = answer.outcome.failure()?;
        kind.starts_with("SignInAgain").then_some((&answer.key, answer.end, kind))
    });
    let seen = book.readings.iter().filter(|reading| reading.seen.lost);
    let lost = told.chain(seen.map(|reading| (&reading.key, reading.end, "its record")));
    let lost = lost.filter(|(key, by, _)| !rejected(key, *by));
    let fault = |(key, by, told): (&String, u64, &str)| {
        format!("{key} is lost at {by}, says {told}, and nobody rejected it")
    };
    lost.map(fault).collect()
}

/// I8: a session's tokens are those that were issued to its own user.
pub fn tokens_of_others(book: &Book) -> Vec<String> {
    let issued = book.exchanges.iter();
    let issued = issued.filter_map(|exchange| Some((exchange.access.as_deref()?, &*exchange.key)));
    let owners: HashMap<&str, &str> = issued.collect();
    let others = handed(book).filter_map(|(answer, token, _)| {
        let owner = owners.get(&*token.hash);
        (owner != Some(&&*answer.key)).then(|| format!("{answer:?} is of {owner:?}"))
    });
    others.collect()
}

/// Whatever happens, a call fails only in a way that its caller can do something about.
pub fn failures(book: &Book) -> Vec<String> {
    let failed = book.answers.iter().filter(|answer| match answer.outcome.failure() {
        None | Some("RetryLater" | "Superseded") => false,
        // A claim is given up after two seconds, whoever was stopped in them.
        Some("Store") => !book.downs.iter().any(|down| {
            let its = down.has_lock || down.is_of(answer.pid);
            its && down.from <= answer.end && down.until.saturating_add(JOINED) >= answer.start
        }),
        Some(_) => !answer.outcome.wants_a_grant(),
    });
    let after = |answer: &Answer| {
        let before = book.downs.iter().filter(|down| down.is_of(answer.pid));
        let since = before.filter_map(|down| answer.start.checked_sub(down.until));
        since.min().map_or(String::new(), |since| {
            format!(", {} ms after the last failure was over", since / 1_000_000)
        })
    };
    failed.map(|answer| format!("failed: {answer:?}{}", after(answer))).collect()
}

/// I9: where nothing is done to anybody, each refresh is asked for once and each answer is kept.
pub fn exchanges_that_do_not_count(book: &Book) -> Vec<String> {
    let mut faults = Vec::new();
    let newest = by_key(&book.readings, |reading| &reading.key, |reading| reading.end);
    for (key, readings) in newest {
        let Some(last) = readings.last() else { continue };
        let of_key: Vec<_> = book.exchanges.iter().filter(|one| one.key == key).collect();
        let given = of_key.iter().filter(|one| one.access.is_some());
        let (refreshes, grants): (Vec<&Exchange>, Vec<&Exchange>) =
            given.copied().partition(|one| one.sent.is_some());
        let deeds = || book.deeds.iter().filter(|deed| deed.key == key).map(|deed| &deed.what);
        let thrown = deeds().filter(|what| matches!(what, Did::Superseded { .. })).count();
        let closes = deeds().filter_map(|what| {
            if let Did::Closed { generation } = what { Some(generation) } else { None }
        });
        // One may be sent twice.
        let closes: HashSet<_> = closes.collect();
        let refused = of_key.len() - refreshes.len() - grants.len();
        let stored = last.seen.generation as usize - closes.len();
        if refreshes.len() + grants.len() != stored + thrown {
            faults.push(format!(
                "{key}: {} refreshes and {} grants for {stored} stored and {thrown} thrown away",
                refreshes.len(),
                grants.len()
            ));
        }
        // A close that comes in between ends the grant, and throws away what it gave.
        if thrown + refused > 0 && closes.is_empty() {
            faults.push(format!("{key}: {thrown} thrown away and {refused} refused for nothing"));
        }
    }
    faults
}

/// Where nothing is done to anybody, everybody is served; but who is told that somebody revoked the
/// session, or signed in to it, where that was so.
pub fn unserved(book: &Book, may_be_revoked: impl Fn(&str) -> bool) -> Vec<String> {
    let failed = book.answers.iter().filter(|answer| {
        answer.outcome.failure().is_some_and(|kind| {
            let told = matches!(kind, "NotEstablished" | "Superseded");
            !(told && may_be_revoked(&answer.key))
        })
    });
    failed.map(|answer| format!("not served: {answer:?}")).collect()
}
