//! The feed of changes.
//!
//! A cursor is a snapshot of the database: which transactions had ended when it was taken. A change
//! is new if its transaction had not ended by then. So a change whose transaction commits late is
//! not skipped, none is told twice, and a transaction that stays open for hours, even in another
//! database of the server, makes no read longer: only the transactions that were under way at the
//! last snapshot, and later ones, are looked at.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::Shared;
use super::database_clock::DatabaseTime;
use super::holder_rows::REMEMBERED_FOR;
use super::postgres_fault::PostgresFault;
use super::row_reader::read_id;
use super::wal_position::WalPosition;
use crate::store::encoding::{decode_counter, decode_phase, encode_duration, encode_limit};
use crate::store::row_fault::RowFault;
use crate::store::{Change, Changes, Cursor, News};

/// How long changes are kept. Defaults to 10 min: a process that was away for longer reads all its
/// sessions again, which costs less than a table of changes that nobody reads.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(600);

/// A cursor older than this gets "unknown". Defaults to 8 min: changes are removed after
/// [`KEPT_FOR`], and the statement that wrote one may have begun some time before it committed.
const CURSOR_LIFE: Duration = Duration::from_secs(480);

/// How many changes one reader is told of before it is told "unknown". Defaults to 100,000: to read
/// all its sessions again costs less then. The query counts one more.
const MAX_NEWS: i64 = 100_000;

/// How many changes one removal deletes at most. Defaults to 10,000, so that it locks few rows.
const PURGED_AT_ONCE: i64 = 10_000;

/// How many removals follow each other at most, after each heartbeat. Defaults to 30: one replica alone
/// keeps up with 60,000 changes a second.
const PURGES_IN_A_ROW: usize = 30;

impl Shared {
    /// The changes after `since`.
    pub(super) async fn changes(
        &self,
        since: Option<&Cursor>,
        limit: usize,
    ) -> Result<Changes, PostgresFault> {
        let limit = limit.max(1);
        let Some(cursor) = since else {
            // Only the snapshot is wanted.
            let page = self.page_of_changes(None, 0).await?;
            return Ok(Page { news: Some(Vec::new()), ..page }.changes(self));
        };
        let position = Position::decode(cursor);
        let continues = position.as_ref().is_some_and(|position| position.to.is_some());
        let first = self.page_of_changes(position, limit).await?;
        match &first.news {
            // The end of a snapshot that was taken for an earlier page. What came since is told
            // too, or `more` would deny it.
            Some(news) if continues && !first.more => {
                let left = limit.saturating_sub(news.len());
                let rest = self.page_of_changes(Some(first.next.clone()), left);
                Ok(first.followed_by(rest.await?).changes(self))
            }
            Some(_) | None => Ok(first.changes(self)),
        }
    }

    /// At most `limit` changes after a position. Without one, or if it cannot be used, none: then
    /// anything may have changed.
    async fn page_of_changes(
        &self,
        position: Option<Position>,
        limit: usize,
    ) -> Result<Page, PostgresFault> {
        // One more than is told shows whether there is more.
        let read_at_most = position.as_ref().map_or(0, |_| encode_limit(limit.saturating_add(1)));
        let known = position.is_some();
        let asked = position.unwrap_or_default();
        let from = Snapshot::parse(&asked.from).unwrap_or_default();
        let own = (!self.is_shared.load(Ordering::Relaxed)).then_some(self.maker);
        let parameters = [
            (&from.after as _, Type::TEXT),
            (&from.under_way as _, Type::TEXT_ARRAY),
            (&asked.to as _, Type::TEXT),
            (&asked.number as _, Type::INT8),
            (&read_at_most as _, Type::INT8),
            (&own as _, Type::INT8),
        ];
        let before = self.failover.position();
        let rows = self.connections.query(&self.statements.changes, &parameters).await?;
        let head = rows.first().ok_or(PostgresFault::NotMigrated)?;
        let at: i64 = head.try_get(0)?;
        self.note_time(DatabaseTime(at));
        let wal: Option<Vec<i64>> = head.try_get(4)?;
        self.note_wal(before, wal.clone());
        let wal = WalPosition::read(wal);
        let to: String = head.try_get(1)?;
        let feed: i64 = head.try_get(2)?;
        let begin = Position { feed, at, wal, from: to.clone(), to: None, number: 0 };
        let many: i64 = head.try_get(3)?;
        let usable = known && asked.is_usable((feed, at, wal), &from, &to) && many <= MAX_NEWS;
        if !usable {
            return Ok(Page { next: begin, news: None, more: false });
        }
        let found = rows.iter().filter(|row| matches!(row.try_get(5), Ok(Some::<i64>(_))));
        let found: Vec<_> = found.collect();
        let more = found.len() > limit;
        let told: Option<Vec<_>> = found.into_iter().take(limit).map(read_news).collect();
        // A change that this version cannot read may be of any session.
        let Some(told) = told else {
            return Ok(Page { next: begin, news: None, more: false });
        };
        let last = told.last().map_or(asked.number, |(number, _)| *number);
        // If there is more, it is the rest of the same snapshot.
        let next = if more { Position { to: Some(to), number: last, ..asked } } else { begin };
        let news: Vec<_> = told.into_iter().map(|(_, of)| of).collect();
        self.remember(&news);
        let news = Some(news);
        Ok(Page { next, news, more })
    }

    fn remember(&self, news: &[News]) {
        let now = self.clock().now().boot;
        for News { id, of } in news {
            self.failover.note_foreign(id, *of, now);
        }
    }

    /// Removes old changes, and supervisors that ended long ago.
    pub(super) async fn purge(&self) -> Result<(), PostgresFault> {
        let age = encode_duration(KEPT_FOR);
        let parameters = [(&age as _, Type::INT8), (&PURGED_AT_ONCE as _, Type::INT8)];
        for _ in 0..PURGES_IN_A_ROW {
            let rows = self.connections.query(&self.statements.purge_changes, &parameters).await?;
            let purged: Option<i64> = rows.first().map(|row| row.try_get(0)).transpose()?;
            if purged.is_none_or(|purged| purged < PURGED_AT_ONCE) {
                break;
            }
        }
        let age = encode_duration(REMEMBERED_FOR);
        self.connections.query(&self.statements.purge_holders, &[(&age as _, Type::INT8)]).await?;
        Ok(())
    }
}

/// A part of the feed.
struct Page {
    next: Position,
    /// `None` if anything may have changed.
    news: Option<Vec<News>>,
    more: bool,
}

impl Page {
    /// This page and the one after it.
    fn followed_by(mut self, rest: Self) -> Self {
        let (Some(news), Some(of_rest)) = (&mut self.news, rest.news) else {
            // Of what came since, the next page says that it cannot be told.
            return Self { more: true, ..self };
        };
        news.extend(of_rest);
        Self { next: rest.next, more: rest.more, ..self }
    }

    fn changes(self, shared: &Shared) -> Changes {
        let failover = shared.failover.last();
        Changes { cursor: self.next.encode(), news: self.news, more: self.more, failover }
    }
}

/// Where a reader is in the feed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Position {
    /// The tables that made the cursor.
    feed: i64,
    /// When `from` was taken, in nanoseconds since 1970.
    at: i64,
    /// The position in the database's log of writes at that time.
    wal: WalPosition,
    /// The snapshot whose changes are all told.
    from: String,
    /// The snapshot that is being told, and the number of the last change that was told of it.
    to: Option<String>,
    number: i64,
}

impl Position {
    fn encode(&self) -> Cursor {
        let Self { feed, at, wal, from, to, number } = self;
        let WalPosition { timeline, flushed } = wal;
        let to = to.as_deref().unwrap_or_default();
        let text = format!("{feed}|{at}|{timeline}|{flushed}|{from}|{to}|{number}");
        Cursor(Arc::from(text.into_bytes()))
    }

    fn decode(cursor: &Cursor) -> Option<Self> {
        let text = std::str::from_utf8(&cursor.0).ok()?;
        let mut parts = text.split('|');
        let (feed, at) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let (timeline, flushed) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let wal = WalPosition { timeline, flushed };
        let (from, to) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        Snapshot::parse(&from)?;
        let to = (!to.is_empty()).then_some(to);
        if let Some(to) = &to {
            Snapshot::parse(to)?;
        }
        let number = parts.next()?.parse().ok()?;
        parts.next().is_none().then_some(Self { feed, at, wal, from, to, number })
    }

    /// Whether the changes since this position are still there. They are not if these are other
    /// tables, if the position is too old, or if the database has gone back to a time before it.
    fn is_usable(
        &self,
        (feed, now, wal): (i64, i64, WalPosition),
        from: &Snapshot,
        to: &str,
    ) -> bool {
        let to = Snapshot::parse(to).unwrap_or_default();
        let number = |text: &str| text.parse::<u64>().unwrap_or(0);
        self.feed == feed
            && wal.continues(self.wal)
            && now.saturating_sub(self.at) <= encode_duration(CURSOR_LIFE)
            && number(&from.after) <= number(&to.after)
    }
}

/// A `pg_snapshot`: `xmin:xmax:xip,xip`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Snapshot {
    /// Transactions from this number on had not begun.
    after: String,
    /// Transactions below that had not ended.
    under_way: Vec<String>,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self { after: "0".to_owned(), under_way: Vec::new() }
    }
}

impl Snapshot {
    fn parse(text: &str) -> Option<Self> {
        let is_number = |text: &str| text.parse::<u64>().is_ok();
        let mut parts = text.split(':');
        let (_, after, list) = (parts.next()?, parts.next()?, parts.next()?);
        let under_way: Vec<_> =
            list.split(',').filter(|of| !of.is_empty()).map(str::to_owned).collect();
        let valid = is_number(after) && under_way.iter().all(|of| is_number(of));
        (valid && parts.next().is_none()).then(|| Self { after: after.to_owned(), under_way })
    }
}

/// A change and its number. `None` if the row has none, or names no session.
fn read_news(row: &Row) -> Option<(i64, News)> {
    let number = row.try_get::<_, Option<i64>>(5).ok()??;
    let id = read_id(row, 6)?;
    let counter = |at| decode_counter(row.try_get(at).map_err(|_| RowFault::Malformed)?);
    let (version, epoch, generation) = (counter(9).ok()?, counter(10).ok()?, counter(11).ok()?);
    let phase: Option<i64> = row.try_get(12).ok()?;
    let phase = match phase {
        None => None,
        Some(code) => Some(decode_phase(code)?),
    };
    Some((number, News { id, of: Change { version, epoch, generation, phase } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAL: WalPosition = WalPosition { timeline: 3, flushed: 500 };

    #[test]
    fn a_cursor_comes_back_as_it_was_and_a_foreign_one_is_not_read() {
        for to in [None, Some("7:9:7,8".to_owned())] {
            let position =
                Position { feed: -3, at: 17, wal: WAL, from: "5:9:5,7".to_owned(), to, number: 12 };
            assert_eq!(Position::decode(&position.encode()), Some(position));
        }
        for foreign in [
            "",
            "1|2|3|4|5:9:",
            "1|2|3|4|x||0",
            "1|2|3|4|5:9:||0|1",
            "a|2|3|4|5:9:||0",
            "1|2|5:9:||0",
        ] {
            let cursor = Cursor(Arc::from(foreign.as_bytes()));
            assert_eq!(Position::decode(&cursor), None, "{foreign}");
        }
    }

    #[test]
    fn a_position_from_before_the_database_went_back_is_not_used() {
        let position =
            Position { feed: 1, at: 0, wal: WAL, from: "90:95:".to_owned(), to: None, number: 0 };
        let from = Snapshot::parse(&position.from).unwrap();
        assert!(position.is_usable((1, 0, WAL), &from, "90:95:"));
        assert!(!position.is_usable((1, 0, WAL), &from, "60:64:"));
        assert!(!position.is_usable((2, 0, WAL), &from, "96:99:"));
        assert!(!position.is_usable((1, encode_duration(CURSOR_LIFE) + 1, WAL), &from, "96:99:"));
        for (timeline, flushed) in [(4, 600), (2, 600), (3, 499)] {
            let gone_back = WalPosition { timeline, flushed };
            assert!(!position.is_usable((1, 0, gone_back), &from, "96:99:"), "{gone_back:?}");
        }
    }
}
