//! ECDSA signatures of the curve P-256, in the form of JWTs.

/// The bytes of each of the two numbers.
const HALF: usize = 32;

/// Makes the form of RFC 7518 section 3.4, both numbers in 32 bytes each, of the form in which TLS
/// has a signature (RFC 3279 section 2.2.3, in DER). None if it is not exactly that.
pub(super) fn fixed(der: &[u8]) -> Option<[u8; 2 * HALF]> {
    let (body, []) = element(0x30, der)? else { return None };
    let (r, rest) = element(0x02, body)?;
    let (s, []) = element(0x02, rest)? else { return None };
    let mut fixed = [0; 2 * HALF];
    let (left, right) = fixed.split_at_mut(HALF);
    copy(r, left)?;
    copy(s, right)?;
    Some(fixed)
}

/// The content of the DER element with this tag, and what follows it. A signature of P-256 has
/// fewer than 128 bytes, so that each length is one byte.
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let [found, length @ 0..128, rest @ ..] = der else { return None };
    if *found != tag {
        return None;
    }
    rest.split_at_checked(usize::from(*length))
}

/// Writes a positive number in DER (X.690 section 8.3) at the end of `to`, which is zero.
fn copy(number: &[u8], to: &mut [u8]) -> Option<()> {
    let number = match number {
        // A zero is there only before a number that would be negative without it.
        [0, rest @ ..] if rest.first().is_some_and(|first| *first >= 128) => rest,
        [1..128, ..] => number,
        _ => return None,
    };
    let at = to.len().checked_sub(number.len())?;
    to.get_mut(at..)?.copy_from_slice(number);
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The DER of a positive number.
    fn integer(number: &[u8]) -> Vec<u8> {
        let number = &number[number.iter().position(|byte| *byte != 0).unwrap()..];
        let zero = if number[0] >= 128 { &[0][..] } else { &[] };
        [&[2, u8::try_from(zero.len() + number.len()).unwrap()], zero, number].concat()
    }

    fn der(fixed: &[u8]) -> Vec<u8> {
        let (r, s) = fixed.split_at(HALF);
        let body = [integer(r), integer(s)].concat();
        [&[0x30, u8::try_from(body.len()).unwrap()], &body[..]].concat()
    }

    fn number() -> impl Strategy<Value = Vec<u8>> {
        (1..=HALF, prop::collection::vec(any::<u8>(), HALF)).prop_map(|(length, mut bytes)| {
            bytes[..HALF - length].fill(0);
            bytes[HALF - 1] |= 1;
            bytes
        })
    }

    proptest! {
        #[test]
        fn two_numbers_of_any_length_come_back(r in number(), s in number()) {
            let expected = [r, s].concat();
            prop_assert_eq!(&fixed(&der(&expected)).unwrap()[..], &expected[..]);
        }

        #[test]
        fn what_is_accepted_is_the_only_form_of_its_numbers(
            r in number(), s in number(), at in 0usize..72, byte in any::<u8>(), cut in 0usize..72,
        ) {
            let mut text = der(&[r, s].concat());
            if let Some(there) = text.get_mut(at) {
                *there = byte;
            }
            text.truncate(cut.max(1));
            if let Some(read) = fixed(&text) {
                prop_assert_eq!(der(&read), text);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(read) = fixed(&bytes) {
                prop_assert_eq!(der(&read), bytes);
            }
        }
    }

    #[test]
    fn other_forms_of_the_same_numbers_are_refused() {
        let good = [0x30, 6, 2, 1, 5, 2, 1, 7];
        let read = fixed(&good).unwrap();
        assert_eq!((read[31], read[63]), (5, 7));
        let wrong: [&[u8]; 11] = [
            &[],
            &[0x30],
            // A byte more, inside and outside.
            &[0x30, 6, 2, 1, 5, 2, 1, 7, 0],
            &[0x30, 7, 2, 1, 5, 2, 1, 7, 0],
            // Too short, and too long a length.
            &[0x30, 7, 2, 1, 5, 2, 1, 7],
            &[0x30, 0x81, 6, 2, 1, 5, 2, 1, 7],
            // Other tags.
            &[0x31, 6, 2, 1, 5, 2, 1, 7],
            &[0x30, 6, 2, 1, 5, 3, 1, 7],
            // Zero, negative, and a zero that is not needed.
            &[0x30, 6, 2, 1, 0, 2, 1, 7],
            &[0x30, 6, 2, 1, 0x80, 2, 1, 7],
            &[0x30, 7, 2, 2, 0, 5, 2, 1, 7],
        ];
        for der in wrong {
            assert_eq!(fixed(der), None, "{der:?}");
        }
        let long = [&[0x30, 38, 2, 33, 1][..], &[9; 32], &[2, 1, 7]].concat();
        assert_eq!(fixed(&long), None);
    }
}
