//! The identity of a session's user, which must not change as long as the session lasts.

use std::fmt;

use super::{ExchangeError, FailureClass};
use crate::error::{Error, ErrorKind};

/// The error of [`Provider::merge_attributes`](super::Provider::merge_attributes): a response is
/// for another user than the session's. See [a complete provider](super#a-complete-provider).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdentityChanged {
    what: &'static str,
}

impl IdentityChanged {
    /// `what` names the part of the identity that differs: `"community"`, for example. The error's
    /// cause shows it, so do not pass the id itself.
    #[must_use]
    pub fn new(what: &'static str) -> Self {
        Self { what }
    }

    /// An error if both values are known and differ; else the value that is known.
    pub(super) fn unless_same<T: PartialEq + Clone>(
        what: &'static str,
        known: &Option<T>,
        issued: Option<T>,
    ) -> Result<Option<T>, Self> {
        match (known, issued) {
            (Some(known), Some(issued)) if *known != issued => Err(Self::new(what)),
            (Some(known), _) => Ok(Some(known.clone())),
            (None, issued) => Ok(issued),
        }
    }
}

impl fmt::Display for IdentityChanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} differs", self.what)
    }
}

impl std::error::Error for IdentityChanged {}

/// The session is kept: its own tokens may still be valid, and the settings can be corrected.
impl From<IdentityChanged> for ExchangeError {
    fn from(changed: IdentityChanged) -> Self {
        let (differs, to_check) = match changed.what {
            "community" => ("community", "member"),
            "subject" => ("subject (sub)", "user"),
            what @ ("member" | "account" | "merchant") => (what, what),
            _ => ("user", "user"),
        };
        let words = format!(
            "the server's response is for another {differs} than the session's; check which \
             {to_check} the grant is for"
        );
        let error = Error::new(ErrorKind::Misconfigured).about(words).with_source(changed);
        Self::new(FailureClass::Misconfigured).with_source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_kept_and_may_not_become_another() {
        let same =
            |known: Option<u64>, issued| IdentityChanged::unless_same("user", &known, issued);
        assert_eq!(same(None, None), Ok(None));
        assert_eq!(same(None, Some(1)), Ok(Some(1)));
        assert_eq!(same(Some(1), None), Ok(Some(1)));
        assert_eq!(same(Some(1), Some(1)), Ok(Some(1)));
        assert_eq!(same(Some(1), Some(2)), Err(IdentityChanged::new("user")));
    }

    #[test]
    fn the_caller_is_told_what_changed() {
        let error = ExchangeError::from(IdentityChanged::new("community")).into_error();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert_eq!(
            error.to_string(),
            "wrong configuration: the server's response is for another community than the \
             session's; check which member the grant is for"
        );
        let cause = std::error::Error::source(&error).unwrap();
        assert_eq!(cause.to_string(), "the community differs");
    }
}
