//! The same tests at servers of different authors, which rotate refresh tokens differently.

mod callers;
mod kills;
mod logins;
mod lost_answers;
mod secrets;

use crate::wsgi_peer::Kind;

/// The tests at this server: those for all servers, and those of its kind of rotation.
macro_rules! tests_at {
    ($server:ident: $kind:expr, $($own:ident::$own_test:ident,)*) => {
        tests_at! {
            @ $server: $kind,
            $($own::$own_test,)*
            logins::a_user_who_logs_in_and_consents_on_the_servers_pages_brings_back_a_session,
            callers::of_200_callers_at_every_expiry_and_at_once_one_refreshes,
            kills::sessions_outlive_a_killed_server_and_a_restart_of_this_side,
            secrets::a_wrong_client_secret_is_reported_once_and_heals_and_no_session_is_lost,
        }
    };
    (@ $server:ident: $kind:expr, $($module:ident::$test:ident,)*) => {
        mod $server {
            use super::{Kind, callers, kills, logins, lost_answers, secrets};
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $test() {
                    $module::$test($kind).await;
                }
            )*
        }
    };
}

tests_at! {
    django_oauth_toolkit_strict: Kind::DjangoOauthToolkit { grace_s: 0 },
    lost_answers::after_a_lost_answer_one_retry_comes_late_and_ends_in_one_loss,
    lost_answers::an_api_that_rejects_the_token_brings_the_retry_forward_but_not_too_early,
    kills::sessions_that_a_killed_server_left_in_doubt_are_lost_and_the_others_live_on,
}

tests_at! {
    django_oauth_toolkit_with_grace: Kind::DjangoOauthToolkit { grace_s: 30 },
    lost_answers::after_a_lost_answer_the_retry_gets_the_same_tokens_and_no_caller_notices,
    kills::sessions_that_a_killed_server_left_in_doubt_get_their_tokens_after_its_restart,
}

tests_at! {
    canaille: Kind::Canaille,
    lost_answers::after_a_lost_answer_one_retry_comes_late_and_ends_in_one_loss,
    lost_answers::an_api_that_rejects_the_token_brings_the_retry_forward_but_not_too_early,
    kills::sessions_that_a_killed_server_left_in_doubt_are_lost_and_the_others_live_on,
}
