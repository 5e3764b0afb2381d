use std::sync::Arc;

use proptest::prelude::*;

use super::*;

fn ends() -> impl Strategy<Value = Option<SystemTime>> {
    let time = |nanos: i64| {
        let size = Duration::from_nanos(nanos.unsigned_abs());
        let epoch = SystemTime::UNIX_EPOCH;
        if nanos < 0 { epoch - size } else { epoch + size }
    };
    proptest::option::of(any::<i64>().prop_map(time))
}

fn accesses() -> impl Strategy<Value = Option<(String, Option<SystemTime>)>> {
    proptest::option::of((any::<String>(), ends()))
}

fn credentials() -> impl Strategy<Value = Credentials> {
    let texts = any::<(Option<String>, String, String, String)>();
    (accesses(), accesses(), texts).prop_map(|(access, refresh, (secret, a, b, c))| {
        let token_secret = secret.map(Into::into);
        let [access, refresh] = [access, refresh]
            .map(|access| access.map(|(s, expires_at)| Access { secret: s.into(), expires_at }));
        let tokens = Tokens { access, refresh, token_secret, attributes: Arc::from(a) };
        Credentials::new(tokens, b, c)
    })
}

fn parts(credentials: &Credentials) -> Vec<(Option<String>, Option<SystemTime>)> {
    let tokens = &credentials.tokens;
    let shown = |secret: &Secret| secret.expose_secret().to_owned();
    let text = |text: &str| (Some(text.to_owned()), None);
    vec![
        (tokens.access_token().map(shown), tokens.access_expires_at()),
        (tokens.refresh_token().map(shown), tokens.refresh_expires_at()),
        (tokens.token_secret().map(shown), None),
        text(&tokens.attributes),
        text(&credentials.authority),
        text(&credentials.client),
    ]
}

proptest! {
    #[test]
    fn credentials_come_back_and_only_their_length_in_steps_shows(given in credentials()) {
        let plain = encode(&given).unwrap();
        prop_assert_eq!(plain.len() % PADDING, 0);
        prop_assert_eq!(plain.capacity(), max_bytes(&given), "it grew");
        prop_assert_eq!(parts(&decode(&plain).unwrap()), parts(&given));
    }

    #[test]
    fn no_bytes_make_it_panic(
        given in credentials(), at in any::<usize>(), byte in any::<u8>(), cut in any::<usize>(),
    ) {
        let mut plain = encode(&given).unwrap();
        let at = at % plain.len();
        plain[at] = byte;
        let cut = cut % plain.len();
        drop(decode(&plain[..cut]));
        drop(decode(&plain));
    }

    #[test]
    fn arbitrary_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
        drop(decode(&bytes));
    }
}
