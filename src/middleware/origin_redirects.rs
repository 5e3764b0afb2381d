//! Redirects, which must not take a token to another origin.

use ::reqwest::redirect::{Attempt, Policy};

use crate::policy::REDIRECTS;

/// A redirect policy for a `reqwest::Client` of your own that sends requests with tokens. The client
/// follows redirects to the same origin, [`REDIRECTS`] at most. It returns a redirect to another
/// origin as the response.
///
/// With its default policy, reqwest follows a redirect to another origin, and removes only the
/// standard headers for credentials, such as `Authorization`. A token in another header would go to
/// the other origin.
///
/// ```
/// # fn run() -> Result<(), reqwest::Error> {
/// use session_warden::middleware::redirect_policy;
///
/// let client = reqwest::Client::builder().redirect(redirect_policy()).build()?;
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn redirect_policy() -> Policy {
    Policy::custom(|attempt: Attempt<'_>| {
        let from = attempt.previous().last();
        let same = from.is_some_and(|from| from.origin() == attempt.url().origin());
        if same && attempt.previous().len() <= REDIRECTS {
            attempt.follow()
        } else {
            attempt.stop()
        }
    })
}
