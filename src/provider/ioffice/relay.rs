//! The page that carries a fragment to the backend.

/// The page to serve at the redirect URI. It posts the fragment of its URL to `callback/done`, as a
/// form. Pass the body of that form to [`finish_login`](crate::session::Session::finish_login).
///
/// A browser never sends a fragment to a server, so a page has to post it. This page loads nothing
/// else, and writes nothing of the fragment as HTML. Before it posts the fragment, it removes it
/// from the address bar and from the history. The page is the same for every login, holds no
/// secret, and may be cached. The path is relative: on `/callback` it is `/callback/done`. For a
/// redirect URI with a longer path, such as `/callback/acme`, set an absolute path with
/// [`fragment_relay_html`]. [`FRAGMENT_RELAY_CSP`] is a policy under which the page runs.
///
/// Keep the ticket of the login in a cookie that is `HttpOnly`, `Secure` and `SameSite=Lax`. The
/// browser sends this cookie with the form, because a page of the backend's own site posts it.
pub const FRAGMENT_RELAY_HTML: &str = include_str!("relay.html");

/// A strict `Content-Security-Policy` for [`FRAGMENT_RELAY_HTML`]. The page loads nothing, no other
/// page can frame it, and its form goes to the page's own origin. The policy allows the page's
/// script by its hash, and no other script.
///
/// If you write your own policy, keep the `script-src` of this one, and let `form-action` allow the
/// target of the form. Some browsers also require that it allows the URL to which the target
/// redirects.
pub const FRAGMENT_RELAY_CSP: &str = "default-src 'none'; \
    script-src 'sha256-Z0pTmU2ld2KamzETXB2Szip/NyxDU3A8xBU+AMhMi0Q='; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The page [`FRAGMENT_RELAY_HTML`] with another target for its form: a path or a URL. Take it from
/// your configuration, and not from a request. The function escapes it.
///
/// ```
/// use session_warden::provider::ioffice::fragment_relay_html;
///
/// let page = fragment_relay_html("/login/done");
/// assert!(page.contains(r#"action="/login/done""#));
/// ```
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
