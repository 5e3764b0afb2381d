//! The forms of the pages that servers show, as far as these tests need HTML.

/// The address of the first form that is posted, and its fields as a user fills them in who has
/// this name and the password `ok`, and who consents; `None` if the page has no such form.
pub fn filled(html: &str, user: &str) -> Option<(String, Vec<(String, String)>)> {
    let mut tags = html.split('<').filter_map(|rest| rest.split_once('>')).map(|(tag, _)| tag);
    let form = tags.find(|tag| {
        let method = attribute(tag, "method").unwrap_or_default();
        is(tag, "form") && method.eq_ignore_ascii_case("post")
    })?;
    let fields = tags.take_while(|tag| !is(tag, "/form")).filter_map(|tag| field(tag, user));
    Some((attribute(form, "action").unwrap_or_default(), fields.collect()))
}

fn field(tag: &str, user: &str) -> Option<(String, String)> {
    let name = attribute(tag, "name")?;
    let value = attribute(tag, "value").unwrap_or_default();
    let kind = attribute(tag, "type").unwrap_or_default();
    let sent = match (is(tag, "input"), kind.as_str(), name.as_str(), value.as_str()) {
        (true, "hidden", ..) => value,
        (true, "text", "username" | "login", _) => user.to_owned(),
        (true, "password", ..) => "ok".to_owned(),
        // The buttons with which a user consents.
        (true, "submit", "allow", _) | (false, "submit", "answer", "accept") => value,
        _ => return None,
    };
    Some((name, sent))
}

fn is(tag: &str, name: &str) -> bool {
    tag.strip_prefix(name)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let start = format!("{name}=\"");
    let (at, _) =
        tag.match_indices(&start).find(|(at, _)| tag[..*at].ends_with(char::is_whitespace))?;
    let (value, _) = tag[at + start.len()..].split_once('"')?;
    let plain = value.replace("&quot;", "\"").replace("&#x27;", "'").replace("&#39;", "'");
    Some(plain.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
}

mod tests {
    use super::filled;

    #[test]
    fn the_first_posted_form_is_filled_in_with_its_hidden_fields_and_the_button_that_consents() {
        let html = r#"<form action="/search"><input name="q"></form>
            <form class="a" method="POST" action="/go?a=1&amp;b=2"><label data-name="no">
            <input type="hidden" name="token" value="&quot;t&quot;"/>
            <input type="checkbox" name="c"><input name="login" type="text"><input type="password" name="password" required>
            <button type="submit" name="answer" value="deny">No</button>
            <button type="submit" name="answer" value="accept">Yes</button></form>
            <form method="post"><input type="hidden" name="late" value="1"></form>"#;
        let (action, fields) = filled(html, "bob").unwrap();
        assert_eq!(action, "/go?a=1&b=2");
        let fields: Vec<_> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        let expected =
            [("token", "\"t\""), ("login", "bob"), ("password", "ok"), ("answer", "accept")];
        assert_eq!(fields, expected);
        assert_eq!(filled("<p>no form</p>", "bob"), None);
    }
}
