//! Redirects, which must not take a token to another origin.

use ::reqwest::redirect::{Attempt, Policy};

use crate::policy::REDIRECTS;

/// A redirect policy for a `reqwest::Client` of your own that sends requests with tokens. The client
/// follows redirects to the same origin, [`REDIRECTS`] at most. It returns a redirect to another
/// origin as the response.
///
/// Without it, the client follows a redirect to another origin, and removes only the headers
/// `Authorization` and `Cookie` from the request. It would take a token in another header or in the
/// query along.
///
/// ```
/// # #[cfg(feature = "reqwest-middleware")]
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
