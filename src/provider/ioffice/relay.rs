//! The page that carries a fragment to the backend.

/// The page for the redirect URI: it posts the fragment that the browser came back with to
/// `callback/done`, as a form whose body is what
/// [`finish_login`](crate::session::Session::finish_login) takes.
///
/// A browser never sends a fragment to a server, so a page has to post it. This page loads nothing
/// else, writes nothing of the fragment as HTML, and removes it from the address bar and the
/// history before it posts it. It is the same for every login, holds no secret, and may be cached.
/// The path is relative: on `/callback` it is `/callback/done`. [`fragment_relay_html`] sets
/// another one, and [`FRAGMENT_RELAY_CSP`] is a policy under which the page runs.
///
/// The ticket of the login has to come with the form, from a cookie that is `HttpOnly`, `Secure`
/// and `SameSite=Lax`: the form is posted by a page of the backend's own site.
pub const FRAGMENT_RELAY_HTML: &str = include_str!("relay.html");

/// A strict `Content-Security-Policy` for the page: it loads nothing, no page can frame it, the
/// form goes to the page's own origin, and only this script runs, by its hash, so that neither
/// `unsafe-inline` nor a nonce is needed.
///
/// In a policy of your own keep the `script-src` of this one, and let `form-action` allow the
/// form's target. Some browsers also require the URL that the target redirects to.
pub const FRAGMENT_RELAY_CSP: &str = "default-src 'none'; \
    script-src 'sha256-Z0pTmU2ld2KamzETXB2Szip/NyxDU3A8xBU+AMhMi0Q='; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// [`FRAGMENT_RELAY_HTML`] with another target for its form: a path, or a URL, from your own
/// configuration and not from a request. It is escaped, so that any text stays the form's target.
#[must_use]
pub fn fragment_relay_html(action: &str) -> String {
    let mut escaped = String::with_capacity(action.len());
    for character in action.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            plain => escaped.push(plain),
        }
    }
    FRAGMENT_RELAY_HTML.replacen(ACTION, &format!("action=\"{escaped}\""), 1)
}

const ACTION: &str = "action=\"callback/done\"";
