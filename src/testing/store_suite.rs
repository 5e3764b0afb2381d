//! The suite that every [`Store`] must pass.
//!
//! One line makes a test of each case:
//!
//! ```
//! use session_warden::store::MemoryStore;
//!
//! // Replace `MemoryStore::new()` by an expression that makes a new, empty store of yours.
//! session_warden::store_suite!(async { MemoryStore::new() });
//! # fn main() {}
//! ```
//!
//! The tests are `#[tokio::test]`, so your crate needs tokio with the features `macros` and `rt`.
//! To use another test harness, call [`run`] for all cases or [`check`] for one case.
//!
//! # Limits of the suite
//!
//! The suite does not check that times are exact. Your store may have a clock of its own, which the
//! suite does not set, and the suite waits for no time to pass. For a lease that must have expired,
//! it uses a duration of zero; for a lease that must be valid, it uses hours. It compares the
//! durations that the store returns with a tolerance of some minutes.
//!
//! The suite does not check that writes survive a crash. Write tests of your own for exact times
//! and for crashes.
//!
//! [`Store::presence`] must work: the store must show a claim whose owner has retired with
//! [`Holder::Dead`](crate::store::Holder::Dead).
//!
//! # The feed of changes
//!
//! [`Store::changes`] may wait until there is a change, so the suite makes a change at the end of
//! each reading. The suite registers two owners first, because a store need not report changes
//! while only one process uses it.
//!
//! If `Store::changes` returns `None`, your store has no feed, and **passes the cases of the feed
//! without a check**. If your store has a feed, write a test that it returns `Some`.
//!
//! The suite cannot make a cursor that is too old without waiting, so it passes a cursor that the
//! store never made. If your store removes old changes, write a test with a cursor from before the
//! removal.
//!
//! # What is shared about clients
//!
//! If [`Store::clients`] returns `None`, your store shares nothing about clients, and **passes the
//! cases of sharing without a check**. If your store shares clients, write a test that it returns
//! `Some`.
//!
//! # Pauses
//!
//! If [`Store::pauses`] returns `None`, your store keeps no pauses, and **passes the cases of pauses
//! without a check**. If your store keeps pauses, write a test that it returns `Some`.
//!
//! # Ended sessions
//!
//! If [`Store::remove_ended`] returns `None`, your store keeps ended sessions, and **passes the cases of
//! their removal without a check**. If your store removes them, write a test that it returns `Some`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a case fails by a panic, as tests do")]

mod claiming;
mod closing;
mod committing;
mod fixture;
mod following;
mod importing;
mod listing;
mod losing;
mod pausing;
mod polling;
mod reading;
mod restoring;
mod retaining;
mod settling;
mod sharing;
mod taking_over;

use std::future::Future;
use std::sync::Arc;

use crate::store::Store;

/// Makes a `#[tokio::test]` of each case of the [store suite](crate::testing::store_suite).
///
/// The argument is an expression whose `await` gives a fresh, empty store.
// The docs of this module describe it, because a macro is listed on the front page.
#[doc(hidden)]
#[macro_export(local_inner_macros)]
macro_rules! store_suite {
    ($store:expr) => {
        store_suite_cases!([store_suite_tests][$store]);
    };
}

/// What [`store_suite!`] makes of the list of cases.
#[doc(hidden)]
#[macro_export(local_inner_macros)]
macro_rules! store_suite_tests {
    ([$store:expr] $($room:ident { $($case:ident,)+ })+) => {
        $($(
            #[::tokio::test]
            async fn $case() {
                let store = ::std::sync::Arc::new($store.await);
                $crate::testing::store_suite::check(::std::stringify!($case), store).await;
            }
        )+)+
    };
}

/// The one list of cases, given to the macro that is named.
#[doc(hidden)]
#[macro_export(local_inner_macros)]
macro_rules! store_suite_cases {
    ([$($each:tt)+] [$($given:tt)*]) => {
        $($each)+! {
            [$($given)*]
            reading {
                an_unknown_session_is_not_there,
                credentials_come_back_as_they_were_given,
                two_providers_and_two_tenants_with_equal_token_ids_never_meet,
                names_that_differ_by_little_stay_apart,
                many_records_are_read_in_the_order_asked_as_each_is_alone,
                the_ends_come_back_as_the_time_that_is_left,
                the_version_rises_with_every_write_and_with_nothing_else,
                a_deleted_session_is_gone_and_the_others_stay,
                a_session_after_a_delete_begins_above_what_was_deleted,
                an_attempt_from_before_a_delete_does_not_touch_the_successor,
                a_first_grant_from_before_a_delete_brings_nothing_back,
                a_delete_does_not_hurt_the_first_grant_of_another_session,
            }
            claiming {
                a_first_claim_makes_a_record_that_shows_its_lease,
                a_claim_for_a_refresh_keeps_what_the_record_has,
                a_refused_first_grant_leaves_nothing_behind,
                a_fence_is_not_given_again_after_a_refused_first_grant,
                a_claim_from_a_stale_generation_gets_the_record,
                a_claim_from_a_stale_epoch_gets_the_record,
                a_claim_for_an_establish_does_not_ask_for_the_generation,
                a_second_owner_gets_the_lease,
                the_same_claim_id_is_the_same_claim,
                a_claim_of_the_same_owner_is_refused_unless_it_names_the_one_it_replaces,
                a_refresh_waits_while_its_session_is_in_doubt_or_in_back_off,
                what_is_lost_provisionally_can_be_tried_at_any_time,
                a_grant_is_held_back_by_neither_doubt_nor_back_off,
                a_claim_tells_the_phase_that_it_found,
                a_renewal_extends_its_own_claim_alone,
                only_a_grant_can_be_claimed_on_what_is_lost_or_closed,
                of_64_claims_at_once_exactly_one_is_granted,
                statements_on_many_sessions_at_once_do_not_disturb_each_other,
            }
            committing {
                an_establish_is_stored_as_epoch_1_and_generation_1,
                a_refresh_raises_the_generation_alone,
                a_refresh_that_brings_no_access_token_is_stored_with_its_backoff,
                a_second_grant_raises_epoch_and_generation,
                a_commit_that_is_sent_twice_is_stored_once,
                an_older_attempt_after_a_newer_one_is_superseded,
                a_newer_attempt_after_an_older_one_replaces_it,
                a_commit_never_goes_over_a_running_newer_claim,
                a_refresh_of_a_former_grant_is_superseded,
                a_refresh_of_a_closed_session_is_superseded,
                a_grant_stands_although_the_session_was_closed_meanwhile,
                a_refresh_brings_a_lost_session_back_suspect,
                a_refresh_brings_a_lost_session_back_suspect_under_a_grant,
                a_grant_brings_a_lost_session_back_clean,
                of_two_first_grants_the_second_to_be_committed_is_superseded,
                what_a_commit_says_of_the_next_look_replaces_what_was_said,
            }
            settling {
                a_harmless_failure_leaves_what_was_before,
                a_lost_grant_leaves_what_was_before_as_suspect,
                a_lost_answer_leaves_a_session_in_doubt,
                a_harmless_failure_leaves_a_doubt_as_it_was,
                a_rejected_refresh_leaves_a_lost_session,
                a_refused_grant_leaves_a_lost_session_lost_for_its_reason,
                a_settle_of_a_claim_that_was_ended_changes_nothing,
                a_settle_that_is_sent_twice_changes_nothing_more,
                a_late_rejection_makes_a_sibling_suspect,
                a_late_failure_makes_nothing_else_suspect,
                what_a_claimant_says_of_the_next_look_does_not_count_where_it_is_over,
                what_failed_is_remembered_until_a_success,
                what_is_lost_provisionally_is_due_and_can_be_claimed_for_a_refresh,
            }
            taking_over {
                a_claim_is_not_taken_over_before_its_lease_and_its_hold_have_ended,
                a_dead_holder_is_waited_for_from_its_claim_on,
                what_may_be_in_a_journal_is_waited_for_until_that_is_replayed,
                a_silent_refresh_is_in_doubt,
                a_silent_refresh_of_what_is_lost_provisionally_is_in_doubt,
                a_silent_establish_leaves_what_was_before_as_suspect,
                a_silent_first_grant_leaves_nothing_behind,
                a_silent_revocation_is_owed_again,
                a_holder_that_comes_back_cannot_settle_but_its_commit_counts,
                of_16_that_take_over_at_once_one_does,
            }
            closing {
                a_close_keeps_the_tokens_that_must_be_revoked,
                a_close_hands_its_claim_to_the_closer,
                a_close_that_is_sent_twice_is_done_once,
                a_close_of_a_stale_generation_gets_the_record,
                a_close_ends_a_claim,
                a_close_while_a_grant_runs_keeps_the_outbox,
                an_owed_revocation_is_claimed_by_one_alone,
                a_revocation_that_was_sent_is_not_due_any_more,
                a_revocation_that_failed_is_due_when_it_may_be_tried,
                the_outbox_is_emptied_under_its_claim_alone,
                a_tombstone_stays_closed_however_a_claim_on_it_ends,
            }
            losing {
                a_session_that_was_found_dead_is_lost,
                a_loss_of_what_was_replaced_gets_the_record,
                only_a_session_can_be_lost,
                a_loss_leaves_a_running_claim_whose_commit_is_suspect,
                what_was_lost_stays_so_however_a_running_claim_ends,
                what_was_lost_stays_lost_for_its_reason,
                what_an_api_rejected_is_suspect_for_whoever_reads_it_next,
            }
            restoring {
                what_a_store_lost_is_written_again,
                a_restore_that_is_sent_twice_is_done_once,
                nothing_is_restored_over_what_is_newer_in_any_way,
                nothing_is_restored_over_a_close,
                nothing_is_restored_after_a_delete,
            }
            retaining {
                a_record_says_since_when_its_session_has_ended,
                an_ended_session_is_removed_when_it_was_kept_for_long_enough,
                what_must_be_revoked_or_is_claimed_is_not_removed,
                ended_sessions_are_removed_page_by_page_in_the_order_of_their_ends,
                of_several_that_remove_at_once_one_removes_each_session,
            }
            pausing {
                what_is_paused_stays_so_until_it_is_resumed,
                scopes_that_differ_by_little_are_paused_apart,
            }
            polling {
                a_login_is_polled_by_one_claim_until_that_ends,
                a_claim_whose_lease_is_over_does_not_hold_a_login,
                the_longest_pause_of_a_login_is_kept_for_the_next_claim,
                of_16_claims_of_a_login_at_once_one_is_granted,
            }
            importing {
                an_import_is_the_record_that_another_store_has,
                an_import_of_a_closed_session_keeps_what_must_be_revoked,
                an_import_that_is_sent_twice_is_done_once,
                nothing_is_imported_over_a_record_that_is_there,
                nothing_is_imported_after_a_delete,
                an_import_begins_above_a_refused_first_grant,
            }
            listing {
                due_records_come_in_order_none_twice_and_none_missed,
                a_record_is_due_when_its_newest_commit_says_so,
                only_what_is_due_in_time_at_its_provider_and_not_at_work_is_named,
                of_several_that_announce_an_end_one_does,
                the_supervisors_that_live_are_named,
                what_is_lost_or_closed_and_revoked_is_not_due,
                a_list_filters_and_pages_in_the_order_of_ids,
                a_list_shows_what_a_load_shows_but_credentials,
                a_list_is_not_disturbed_by_changes_meanwhile,
            }
            following {
                without_a_cursor_there_is_nothing_but_a_cursor,
                the_write_of_a_statement_is_reported,
                a_restore_is_reported,
                an_import_is_reported,
                the_removal_of_an_ended_session_is_reported,
                what_a_late_failure_makes_suspect_is_reported,
                claims_and_renewals_are_no_news,
                what_was_refused_is_no_news,
                changes_come_in_their_order_none_twice_and_none_missed,
                a_cursor_that_is_not_known_says_that_anything_may_have_changed,
            }
            sharing {
                a_client_of_which_nothing_is_known_is_not_held_back,
                of_two_waits_that_a_server_asked_for_the_longer_one_holds,
                a_wait_that_is_over_holds_no_client_back,
                a_stop_holds_for_its_tenant_until_the_server_accepts_the_client,
                a_stop_for_two_tenants_is_one_for_all,
                a_rejection_or_an_acceptance_that_comes_late_changes_nothing,
                a_probe_is_granted_once_and_to_the_same_claim_again,
                a_prober_that_falls_silent_loses_the_probe_after_the_interval,
                of_16_claims_of_a_probe_at_once_one_is_granted,
                clients_that_differ_by_little_stay_apart,
                clients_that_are_held_back_are_listed_in_the_order_of_their_keys,
                the_supervisors_that_run_are_counted,
            }
        }
    };
}

macro_rules! store_suite_names {
    ([] $($room:ident { $($case:ident,)+ })+) => {
        /// The names of the cases.
        pub const NAMES: &[&str] = &[$($(stringify!($case),)+)+];
    };
}

macro_rules! store_suite_dispatch {
    ([$name:expr, $store:expr] $($room:ident { $($case:ident,)+ })+) => {
        match $name {
            $($(stringify!($case) => $room::$case(fixture::Fixture::new($store)).await,)+)+
            other => panic!("there is no case {other}"),
        }
    };
}

store_suite_cases!([store_suite_names] []);

/// Runs every case, each on a new, empty store that `factory` makes.
///
/// ```
/// use session_warden::store::MemoryStore;
/// use session_warden::testing::store_suite;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// store_suite::run(|| async { MemoryStore::new() }).await;
/// # }
/// ```
///
/// # Panics
///
/// If a case fails.
///
/// # Cancel safety
///
/// May be dropped at any time.
pub async fn run<S, F>(factory: impl Fn() -> F)
where
    S: Store,
    F: Future<Output = S>,
{
    for name in NAMES {
        check(name, Arc::new(factory().await)).await;
    }
}

/// Runs the case with this name, one of [`NAMES`], on `store`, which must be new and empty.
///
/// ```
/// use std::sync::Arc;
///
/// use session_warden::store::MemoryStore;
/// use session_warden::testing::store_suite;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// for name in store_suite::NAMES {
///     println!("{name}");
///     store_suite::check(name, Arc::new(MemoryStore::new())).await;
/// }
/// # }
/// ```
///
/// # Panics
///
/// If the case fails, or if no case has this name.
///
/// # Cancel safety
///
/// May be dropped at any time.
pub async fn check(name: &str, store: Arc<dyn Store>) {
    store_suite_cases!([store_suite_dispatch] [name, store]);
}
