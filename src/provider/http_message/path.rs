//! Ids in the paths of requests.

use url::Url;

use super::percent;
use crate::error::{Error, ErrorKind};

/// The URL `base` with one more path segment, which is escaped. Use it for ids that come from
/// outside the backend. `base` has no slash at its end, no query and no fragment. See the
/// [example of the module](super).
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] if the segment is empty or a dot segment (`.`, `..`), which would
/// lead to another path (RFC 3986 section 5.2.4), or if the resulting path is not the path of
/// `base` followed by exactly this segment.
pub fn url_below(base: &str, segment: &str) -> Result<String, Error> {
    let refused = |words| Error::new(ErrorKind::InvalidInput).about(words);
    if segment.is_empty() {
        return Err(refused("an id that becomes part of a URL's path is empty; give an id"));
    }
    if matches!(segment, "." | "..") {
        return Err(refused(
            "an id that becomes part of a URL's path is `.` or `..`; give another id",
        ));
    }
    let mut url = format!("{base}/");
    url.extend(percent::encoded(segment.as_bytes()));
    if keeps_place(base, &url) == Some(true) {
        Ok(url)
    } else {
        Err(refused("an id does not stay within its part of the URL's path; give another id"))
    }
}

/// Whether a client that parses `url` asks for the path of `base` and one segment more.
fn keeps_place(base: &str, url: &str) -> Option<bool> {
    let (base, parsed) = (Url::parse(base).ok()?, Url::parse(url).ok()?);
    let prefix = base.path().trim_end_matches('/');
    let rest = parsed.path().strip_prefix(prefix)?.strip_prefix('/')?;
    let same_server = base.origin() == parsed.origin();
    let whole = parsed.query().is_none() && parsed.fragment().is_none();
    Some(same_server && whole && !rest.is_empty() && !rest.contains('/') && parsed.as_str() == url)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASE: &str = "https://api.example/auth/tokens";

    #[test]
    fn a_dot_segment_and_an_empty_id_are_refused() {
        for id in ["", ".", ".."] {
            assert_eq!(url_below(BASE, id).unwrap_err().kind(), ErrorKind::InvalidInput, "{id}");
        }
        for (id, segment) in [
            ("...", "..."),
            ("..a", "..a"),
            ("%2e%2e", "%252e%252e"),
            (".%2E", ".%252E"),
            ("../a?b#c/é", "..%2Fa%3Fb%23c%2F%C3%A9"),
            ("..\\a", "..%5Ca"),
            ("..;", "..%3B"),
        ] {
            assert_eq!(url_below(BASE, id).unwrap(), format!("{BASE}/{segment}"));
        }
    }

    #[test]
    fn a_base_that_is_no_place_for_an_id_is_refused() {
        for base in ["", "/tokens", "https://api.example/a?b", "https://api.example/a/.."] {
            assert_eq!(url_below(base, "1").unwrap_err().kind(), ErrorKind::InvalidInput, "{base}");
        }
    }

    #[test]
    fn no_id_leads_to_another_path_than_its_own() {
        let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
        let wild = prop_oneof![any::<String>(), "[.%2eEfF/\\\\?#;\t\n a]{0,8}"];
        proptest!(config, |(id in wild)| {
            let Ok(url) = url_below(BASE, &id) else {
                prop_assert!(matches!(id.as_str(), "" | "." | ".."), "{id:?}");
                return Ok(());
            };
            let parsed = Url::parse(&url).unwrap();
            let segments: Vec<_> = parsed.path_segments().unwrap().collect();
            prop_assert_eq!(&segments[..2], &["auth", "tokens"]);
            let decoded = url::form_urlencoded::parse(segments[2].as_bytes());
            let decoded: Vec<_> = decoded.map(|(name, _)| name.into_owned()).collect();
            prop_assert_eq!((segments.len(), decoded), (3, vec![id]));
        });
    }
}
