//! Records of other stores.

use std::time::Duration;

use super::fixture::{
    ALICE, BOB, ENDS, Fixture, HOUR, claim, conflict, credentials, done, gist, is_about, is_stored,
};
use crate::error::LostReason;
use crate::store::{
    Attempt, ClaimId, Ends, Failures, Import, Intent, Outcome, Phase, SettleTo, Statement, Stored,
};

/// An active record with these counters.
pub(super) fn import(version: u64, epoch: u64, generation: u64) -> Import {
    Import {
        version,
        epoch,
        generation,
        fence: version - 1,
        phase: Phase::Active,
        credentials: Some(credentials("imported")),
        outbox: None,
        made_by: Some(Attempt { base: generation - 1, fence: version - 1, claim: ClaimId(78) }),
        ends: ENDS,
        suspect: false,
        lost: None,
        tries: 0,
        failures: None,
        failing_for: None,
        ended_for: None,
    }
}

impl Fixture {
    async fn import(&self, import: &Import) -> Outcome {
        self.apply(Statement::Import(Box::new(import.clone()))).await
    }
}

/// One of each phase with credentials.
fn imports() -> [Import; 4] {
    let failures = Failures {
        unclassified: 3,
        since: None,
        status: Some(418),
        code: Some("teapot".to_owned()),
    };
    let (failures, failing_for) = (Some(Box::new(failures)), Some(2 * HOUR));
    let ends = Ends {
        access_in: Some(HOUR),
        refresh_in: Some(50 * HOUR),
        due_in: Some(2 * HOUR),
        announce_in: Some(30 * HOUR),
        retry_in: Some(3 * HOUR),
    };
    let over = Ends { access_in: Some(Duration::ZERO), retry_in: None, ..ends };
    let active = import(50, 2, 5);
    [
        active.clone(),
        Import { suspect: true, ends: over, ..active.clone() },
        Import { phase: Phase::InDoubt, ends, tries: 4, fence: 49, ..active.clone() },
        Import {
            phase: Phase::Lost,
            lost: Some(LostReason::Unclassified),
            ends,
            failures,
            failing_for,
            ended_for: Some(5 * HOUR),
            ..active
        },
    ]
}

pub(super) async fn an_import_is_the_record_that_another_store_has(fixture: Fixture) {
    for (number, import) in (0..).zip(imports()) {
        let fixture = fixture.named(&format!("device-{number}"));
        let imported = done(fixture.import(&import).await);
        assert_eq!((imported.version, imported.fence), (50, import.fence));
        assert_eq!((imported.phase, imported.suspect), (import.phase, import.suspect));
        assert_eq!(fixture.gist().await, gist(2, 5, import.phase, "imported"));
        let stored = fixture.stored().await;
        is_imported(&stored, &import);
        let record = stored.record;
        assert_eq!((record.version, record.lease), (imported.version, None));
        assert!(fixture.is_due().await);
        // Life goes on above it.
        let grant = fixture.granted(BOB, Intent::Establish).await;
        assert!(grant.attempt.fence > imported.version);
        is_stored(fixture.commit(grant, "next").await, 3, 6);
    }
    let refreshed = fixture.named("refreshed");
    done(refreshed.import(&import(50, 2, 5)).await);
    let refresh = refreshed.granted(BOB, Intent::Refresh).await;
    is_stored(refreshed.commit(refresh, "next").await, 2, 6);
}

/// The times, and all that is not in the gist.
#[track_caller]
fn is_imported(stored: &Stored, import: &Import) {
    let (record, ends) = (&stored.record, import.ends);
    for (left, asked) in [
        (stored.access_left(), ends.access_in),
        (stored.refresh_left(), ends.refresh_in),
        (stored.due_in(), ends.due_in),
        (stored.announce_in(), ends.announce_in),
        (stored.retry_in(), ends.retry_in),
    ] {
        assert_eq!(left.is_some(), asked.is_some(), "{left:?} is not {asked:?}");
        is_about(Some(left.unwrap_or_default()), asked.unwrap_or_default());
    }
    assert_eq!((record.made_by, record.tries), (import.made_by, import.tries));
    assert_eq!((record.suspect, record.lost), (import.suspect, import.lost));
    let known = |failures: &Option<Box<Failures>>| {
        failures.as_ref().map(|of| (of.unclassified, of.status, of.code.clone()))
    };
    assert_eq!(known(&record.failures), known(&import.failures));
    is_about(Some(import.ended_for.unwrap_or_default()), stored.ended_for().unwrap_or_default());
    let (failing, asked) = (stored.failing_for(), import.failing_for);
    assert_eq!(failing.is_some(), asked.is_some(), "{failing:?} is not {asked:?}");
    // It grows meanwhile, as the times above shrink.
    is_about(Some(asked.unwrap_or_default()), failing.unwrap_or_default());
}

pub(super) async fn an_import_of_a_closed_session_keeps_what_must_be_revoked(fixture: Fixture) {
    let (owed, revoked) = (fixture.named("owed"), fixture.named("revoked"));
    let active = import(50, 2, 5);
    let ends = Ends { due_in: Some(Duration::ZERO), ..Ends::default() };
    let closed = Import { phase: Phase::Closed, credentials: None, ends, ..active.clone() };
    let with_outbox = Import { outbox: active.credentials, ..closed.clone() };
    assert_eq!(done(owed.import(&with_outbox).await).phase, Phase::Closed);
    let ends = Ends::default();
    done(revoked.import(&Import { made_by: None, ends, ..closed }).await);
    for (fixture, is_owed) in [(&owed, true), (&revoked, false)] {
        let record = fixture.record().await;
        assert_eq!((record.counters(), record.phase), ((2, 5), Phase::Closed));
        assert!(record.credentials.is_none());
        let outbox = record.outbox.as_ref().and_then(|outbox| outbox.tokens().refresh_token());
        let outbox = outbox.map(|token| token.expose_secret().to_owned());
        assert_eq!(outbox, is_owed.then(|| "refresh-imported".to_owned()));
        assert_eq!(fixture.is_due().await, is_owed);
    }
    let revocation = owed.granted(BOB, Intent::Revoke).await;
    done(owed.settle(revocation, SettleTo::Revoked).await);
    assert!(owed.record().await.outbox.is_none());
    conflict(revoked.claim(claim(BOB, Intent::Revoke, Some((2, 5)))).await);
}

pub(super) async fn an_import_that_is_sent_twice_is_done_once(fixture: Fixture) {
    for (number, import) in (0..).zip(imports()) {
        let fixture = fixture.named(&format!("device-{number}"));
        let first = done(fixture.import(&import).await);
        assert_eq!(done(fixture.import(&import).await), first);
        assert_eq!(fixture.record().await.version, first.version);
        let grant = fixture.granted(ALICE, Intent::Establish).await;
        conflict(fixture.import(&import).await);
        is_stored(fixture.commit(grant, "next").await, 3, 6);
        conflict(fixture.import(&import).await);
        assert_eq!(fixture.gist().await, gist(3, 6, Phase::Active, "next"));
    }
}

pub(super) async fn nothing_is_imported_over_a_record_that_is_there(fixture: Fixture) {
    let (active, closed, claimed) =
        (fixture.named("active"), fixture.named("closed"), fixture.named("claimed"));
    active.established().await;
    closed.uninformed().await;
    claimed.granted(ALICE, Intent::Establish).await;
    for fixture in [active, closed, claimed] {
        let before = fixture.record().await;
        for import in [import(2, 1, 1), import(50, 1, 1), import(50, 1, 2), import(50, 9, 9)] {
            let found = conflict(fixture.import(&import).await).unwrap();
            assert_eq!(found.version, before.version, "{import:?}");
        }
        let after = fixture.record().await;
        assert_eq!((after.version, after.counters()), (before.version, before.counters()));
        assert_eq!(after.phase, before.phase);
    }
}

pub(super) async fn nothing_is_imported_after_a_delete(fixture: Fixture) {
    fixture.established().await;
    let stored = fixture.stored().await;
    let import = Import::from(&stored);
    done(fixture.delete().await);
    assert!(conflict(fixture.import(&import).await).is_none());
    let later = Import { version: import.version + 50, ..import };
    assert!(conflict(fixture.import(&later).await).is_none());
    assert!(fixture.load().await.is_none(), "what was deleted is back");
}

pub(super) async fn an_import_begins_above_a_refused_first_grant(fixture: Fixture) {
    let grant = fixture.granted(ALICE, Intent::Establish).await;
    done(fixture.settle(grant, SettleTo::Before).await);
    let import = import(2, 1, 1);
    let imported = done(fixture.import(&import).await);
    assert!(imported.version > grant.attempt.fence, "{imported:?}");
    assert_eq!(done(fixture.import(&import).await), imported);
    let refresh = fixture.granted(ALICE, Intent::Refresh).await;
    assert!(refresh.attempt.fence > grant.attempt.fence);
    conflict(fixture.commit(grant, "late").await);
    is_stored(fixture.commit(refresh, "next").await, 1, 2);
}
