//! Starts, ends, runtimes and policies.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use session_warden::policy::Policy;

use super::*;
use crate::support::provider_of;

#[test]
fn a_start_without_a_runtime_says_so() {
    let mut starting = pin!(builder().provider("acme", https()).start());
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(started) = starting.as_mut().poll(&mut context) else { panic!("it waits") };
    says(
        &started.map(drop).unwrap_err(),
        ErrorKind::Misconfigured,
        "wrong configuration: there is no tokio runtime here; call `start` within one, for example \
         in a function with `#[tokio::main]`",
    );
}

/// This is allowed, and no error: each handle keeps the supervisor.
#[tokio::test]
async fn a_session_works_after_the_supervisors_own_handle_is_dropped() {
    let server = fake_server().await;
    let supervisor = builder().provider("acme", provider_of(&server)).start().await.unwrap();
    let session = session::<OAuth2>(&supervisor, "acme");
    drop(supervisor);
    let _ = session.establish(Password::new("ada", "pw")).await.unwrap();
    session.permission_token().await.map(drop).unwrap();
}

#[tokio::test]
async fn a_call_after_the_shutdown_says_so() {
    let supervisor = builder().provider("acme", https()).start().await.unwrap();
    let session = session::<OAuth2>(&supervisor, "acme");
    let _ = supervisor.shutdown(Duration::from_secs(1)).await;
    let text = "the supervisor takes no more calls: it was shut down, so use another one";
    let error = session.permission_token().await.map(drop).unwrap_err();
    says(&error, ErrorKind::ShuttingDown, text);
    let password = Password::new("ada", "pw");
    let error = session.establish(password).await.map(drop).unwrap_err();
    says(&error, ErrorKind::ShuttingDown, text);
}

#[test]
fn a_call_after_the_end_of_the_supervisors_runtime_says_so() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (started_on, calling) = (runtime(), runtime());
    let supervisor = started_on.block_on(builder().provider("acme", https()).start()).unwrap();
    let session = session::<OAuth2>(&supervisor, "acme");
    drop(started_on);
    let text = "the supervisor takes no more calls: the tokio runtime that it was started on has \
                ended, so start it on a runtime that lives as long as the program";
    let error = calling.block_on(session.permission_token()).map(drop).unwrap_err();
    says(&error, ErrorKind::ShuttingDown, text);
    let password = Password::new("ada", "pw");
    let error = calling.block_on(session.establish(password)).map(drop).unwrap_err();
    says(&error, ErrorKind::ShuttingDown, text);
}

#[tokio::test]
async fn a_policy_that_cannot_work_names_the_field() {
    let policy = Policy { call_timeout: Duration::ZERO, ..Policy::default() };
    let error = builder().policy(policy).start().await.map(drop).unwrap_err();
    says(
        &error,
        ErrorKind::Misconfigured,
        "wrong configuration: `Policy::call_timeout` is zero; set a larger value",
    );
}
