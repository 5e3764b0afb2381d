//! Text from outside in the text of an error: bounded, on one line, and without secrets.

use std::borrow::Cow;

use url::Url;

/// The longest explanation of an error. Defaults to 1,024 bytes because a log line has little room
/// for more, and the longest explanation with two URLs has some 600.
const MAX_ABOUT_BYTES: usize = 1024;

/// How many characters of a name or a URL are shown. Defaults to 200 because issuers and provider
/// names have fewer.
const MAX_SHOWN_CHARS: usize = 200;

/// The text, cut to what an error may hold.
pub(crate) fn bounded(words: Cow<'static, str>) -> Cow<'static, str> {
    if words.len() <= MAX_ABOUT_BYTES {
        return words;
    }
    let mut bytes = 0;
    let fits = |c: &char| {
        bytes += c.len_utf8();
        bytes <= MAX_ABOUT_BYTES
    };
    Cow::Owned(words.chars().take_while(fits).collect())
}

/// The text between quotes, with control characters and invisible characters escaped.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN_CHARS) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}...", text.get(..end).unwrap_or_default()),
    }
}

/// As [`quoted`], for a URL or what should be one, without user name, password, query and fragment.
pub(crate) fn quoted_url(text: &str) -> String {
    match Url::parse(text) {
        Ok(url) if url.has_authority() => {
            let bare = bare_url(url.clone());
            // As it was written if nothing was removed, because issuers are compared that way.
            quoted(if bare == url { text } else { bare.as_str() })
        }
        Ok(_) | Err(_) => quoted(text.split(['?', '#', '@']).next().unwrap_or_default()),
    }
}

/// The URL without user name, password, query and fragment.
pub(crate) fn bare_url(mut url: Url) -> Url {
    url.set_query(None);
    url.set_fragment(None);
    // Neither fails for a URL with a host; one without a host has no user name.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_at_a_character() {
        let words = "é".repeat(MAX_ABOUT_BYTES);
        let cut = bounded(Cow::Owned(words));
        assert_eq!(cut.len(), MAX_ABOUT_BYTES);
        assert_eq!(bounded(Cow::Borrowed("short")), "short");
        assert!(quoted(&"x".repeat(5000)).len() < MAX_SHOWN_CHARS + 10);
    }

    #[test]
    fn nothing_in_a_name_moves_the_cursor_or_turns_text_around() {
        assert_eq!(quoted("a\r\n\u{1b}[31m\u{202e}b"), r#""a\r\n\u{1b}[31m\u{202e}b""#);
    }

    #[test]
    fn a_url_is_shown_without_what_may_be_secret() {
        for (text, shown) in [
            ("https://as.example", r#""https://as.example""#),
            ("https://as.example/", r#""https://as.example/""#),
            ("https://u:canary@as.example/a?b=canary#canary", r#""https://as.example/a""#),
            ("no URL ?canary", r#""no URL ""#),
            ("data:canary@canary", r#""data:canary""#),
        ] {
            assert_eq!(quoted_url(text), shown);
        }
    }
}
