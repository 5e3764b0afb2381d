//! What credentials are bound to: the URLs that their tokens may be sent to.

use std::sync::Arc;

use url::{Origin, Url};

/// A provider's authority, and the other URLs to which it sends stored tokens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Binding {
    /// The form that is stored with credentials: URLs with spaces between them, the authority
    /// first. All sessions of the provider share it.
    text: Arc<str>,
    /// The form that version 0.1.0 stored: the authority's origin alone.
    former: Option<Box<str>>,
}

impl Binding {
    pub(crate) fn of(authority: &Url, more: Vec<Url>) -> Self {
        let mut more: Vec<_> = more.iter().map(plain).collect();
        more.sort_unstable();
        more.dedup();
        let mut text = plain(authority);
        for place in more.iter().filter(|place| **place != plain(authority)) {
            text.push(' ');
            text.push_str(place);
        }
        let origin = authority.origin();
        let former = matches!(origin, Origin::Tuple(..)).then(|| origin.ascii_serialization());
        Self { text: text.into(), former: former.map(String::into_boxed_str) }
    }

    pub(crate) fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// The stored form with these URLs at its end, which one session has of its own.
    pub(crate) fn and(&self, more: &[Url]) -> Arc<str> {
        let more: Vec<_> = more.iter().map(plain).collect();
        let more: Vec<_> = more.iter().filter(|place| !Self::names(&self.text, place)).collect();
        if more.is_empty() {
            return Arc::clone(&self.text);
        }
        let mut text = self.text.to_string();
        for place in more {
            text.push(' ');
            text.push_str(place);
        }
        text.into()
    }

    /// Whether a stored form names each of these URLs.
    pub(crate) fn has(recorded: &str, places: &[Url]) -> bool {
        places.iter().all(|place| Self::names(recorded, &plain(place)))
    }

    fn names(recorded: &str, place: &str) -> bool {
        recorded.split(' ').any(|known| known == place)
    }

    /// Whether the provider may use credentials with the binding `recorded`: the authority is the
    /// same, and the provider sends tokens to no URL that was not known when the credentials were
    /// issued.
    ///
    /// Version 0.1.0 recorded an origin without a path. It is accepted, and the next save replaces
    /// it.
    pub(crate) fn covers(&self, recorded: &str) -> bool {
        if *self.text == *recorded || self.former.as_deref() == Some(recorded) {
            return true;
        }
        let (mut known, mut needed) = (recorded.split(' '), self.text.split(' '));
        let authority = known.next();
        let places: Vec<_> = known.collect();
        authority == needed.next() && needed.all(|place| places.contains(&place))
    }
}

/// A serialized URL has no space (WHATWG URL), and one that has a path or none always differs from
/// its serialized origin, which has no slash at its end.
fn plain(url: &Url) -> String {
    let mut url = url.clone();
    url.set_fragment(None);
    String::from(url).replace(' ', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(authority: &str, more: &[&str]) -> Binding {
        let url = |text: &str| Url::parse(text).unwrap();
        Binding::of(&url(authority), more.iter().map(|text| url(text)).collect())
    }

    #[test]
    fn credentials_are_bound_to_the_whole_url_and_not_to_its_host() {
        let own = binding("https://as.example/a/token?p=1", &[]);
        assert!(own.covers(own.text()));
        for other in [
            "https://as.example/b/token?p=1",
            "https://as.example/a/token",
            "https://as.example/",
            "https://other.example/a/token?p=1",
            "",
        ] {
            assert!(!own.covers(other), "{other}");
        }
    }

    #[test]
    fn what_0_1_0_recorded_is_accepted_and_told_from_a_root_that_is_recorded_now() {
        let (root, a) = (binding("https://as.example", &[]), binding("https://as.example/a", &[]));
        assert_eq!(&**root.text(), "https://as.example/");
        for binding in [&root, &a] {
            assert!(binding.covers("https://as.example"));
            assert!(!binding.covers("https://as.example:8443"));
        }
        assert!(!a.covers(root.text()) && !root.covers(a.text()));
        assert!(!binding("com.example:a", &[]).covers("null"));
    }

    #[test]
    fn a_place_that_was_not_known_at_the_issue_gets_no_token_and_one_that_is_gone_does_not_matter()
    {
        let user_info = "https://api.example/me";
        let (with, without) =
            (binding("https://as.example/t", &[user_info]), binding("https://as.example/t", &[]));
        let moved = binding("https://as.example/t", &["https://evil.example/me"]);
        let more = binding("https://as.example/t", &["https://b.example/r", user_info, user_info]);
        assert_eq!(
            &**more.text(),
            "https://as.example/t https://api.example/me https://b.example/r"
        );
        assert!(without.covers(with.text()) && with.covers(more.text()));
        for (now, recorded) in
            [(&with, &without), (&moved, &with), (&moved, &without), (&more, &with)]
        {
            assert!(!now.covers(recorded.text()), "{now:?} {recorded:?}");
        }
        let shifted = binding(user_info, &["https://as.example/t"]);
        assert!(!with.covers(shifted.text()));
    }
}
