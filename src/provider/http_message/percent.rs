//! Percent-encoding (RFC 3986 section 2.1).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};
use zeroize::Zeroizing;

/// All but the unreserved characters (RFC 3986 section 2.3, RFC 5849 section 3.6).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The pieces of the encoded text. They are borrowed, so no copy of a secret is made.
pub(in crate::provider) fn encoded(bytes: &[u8]) -> impl Iterator<Item = &str> {
    percent_encode(bytes, ESCAPED)
}

/// A name or a value of a form or a query as bytes. `+` is a space. A percent sign that begins no
/// escape is kept.
pub(in crate::provider) fn decoded(text: &[u8]) -> Zeroizing<Vec<u8>> {
    // The full capacity at once: growing would leave a copy behind that is not wiped.
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    for (at, piece) in text.split(|byte| *byte == b'+').enumerate() {
        if at > 0 {
            bytes.push(b' ');
        }
        bytes.extend(percent_decode(piece));
    }
    bytes
}
