//! The suite that every [`Store`] must pass.
//!
//! One line makes a test of each case, so that the counts are equal for all stores:
//!
//! ```
//! use session_warden::store::MemoryStore;
//!
//! // An expression that gives a fresh, empty store each time that it is awaited.
//! session_warden::store_suite!(async { MemoryStore::new() });
//! # fn main() {}
//! ```
//!
//! The tests are `#[tokio::test]`, so the crate that they stand in needs tokio with `macros` and
//! `rt`. Where another harness is wanted, [`run`] runs all cases and [`check`] one of them.
//!
//! The suite passes the time to the store and never waits, so it says nothing of a store's own
//! clock. It cannot stop the process either: that what was answered is still there after a crash
//! is each store's own to test.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a case fails by a panic, as tests do")]

mod bed;
mod claiming;
mod closing;
mod committing;
mod listing;
mod reading;
mod settling;
mod taking_over;

use std::future::Future;
use std::sync::Arc;

use crate::store::Store;

/// Makes a `#[tokio::test]` of each case of the [store suite](crate::testing::store_suite).
///
/// The argument is an expression whose `await` gives a fresh, empty store.
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
                a_deleted_session_is_gone_and_the_others_stay,
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
                a_second_owner_is_told_of_the_lease,
                an_owner_takes_its_own_left_behind_claim_again,
                only_a_grant_can_be_claimed_on_what_is_lost_or_closed,
                of_64_claims_at_once_exactly_one_is_granted,
                statements_on_many_sessions_at_once_do_not_disturb_each_other,
            }
            committing {
                an_establish_is_stored_as_epoch_1_and_generation_1,
                a_refresh_raises_the_generation_alone,
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
            }
            settling {
                a_harmless_failure_leaves_what_was_before,
                a_lost_grant_leaves_what_was_before_as_suspect,
                a_lost_answer_leaves_a_session_in_doubt,
                a_harmless_failure_leaves_a_doubt_as_it_was,
                a_rejected_refresh_leaves_a_lost_session,
                a_refused_grant_leaves_a_lost_session_lost_for_its_reason,
                a_settle_under_an_old_fence_changes_nothing,
                a_settle_that_is_sent_twice_changes_nothing_more,
                a_fenced_out_rejection_makes_a_sibling_suspect,
                a_fenced_out_failure_makes_nothing_else_suspect,
                what_is_lost_provisionally_is_due_and_can_be_claimed_for_a_refresh,
            }
            taking_over {
                a_claim_is_not_taken_over_before_its_lease_ends,
                a_silent_refresh_is_in_doubt,
                a_silent_refresh_of_what_is_lost_provisionally_is_in_doubt,
                a_silent_establish_leaves_what_was_before_as_suspect,
                a_silent_first_grant_leaves_nothing_behind,
                a_holder_that_comes_back_cannot_settle_but_its_commit_counts,
                of_16_that_take_over_at_once_one_does,
            }
            closing {
                a_close_keeps_what_the_server_must_be_told,
                a_close_that_is_sent_twice_is_done_once,
                a_close_of_a_stale_generation_gets_the_record,
                a_close_ends_a_claim,
                a_close_while_a_grant_runs_keeps_the_outbox,
                the_outbox_is_emptied_for_the_named_generation_alone,
            }
            listing {
                due_records_come_in_order_none_twice_and_none_missed,
                a_record_is_due_when_its_newest_commit_says_so,
                what_is_lost_or_closed_and_told_is_not_due,
                a_list_filters_and_pages_in_the_order_of_ids,
                a_list_is_not_disturbed_by_changes_meanwhile,
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
            $($(stringify!($case) => $room::$case(bed::Bed::new($store)).await,)+)+
            other => panic!("there is no case {other}"),
        }
    };
}

store_suite_cases!([store_suite_names] []);

/// Runs every case, each on a fresh store that `factory` makes.
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

/// Runs the case of this name on a fresh, empty store.
///
/// # Panics
///
/// If the case fails, or if there is none of that name.
///
/// # Cancel safety
///
/// May be dropped at any time.
pub async fn check(name: &str, store: Arc<dyn Store>) {
    store_suite_cases!([store_suite_dispatch] [name, store]);
}
