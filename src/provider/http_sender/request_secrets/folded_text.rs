//! A text in the form in which secrets are compared.

use std::ops::Range;

use zeroize::Zeroizing;

use crate::key::misleads;

/// The text in lower case, without what differs when servers repeat a part of a request: white space,
/// `+` in its place, backslashes of escapes, and characters that nobody sees.
pub(super) struct FoldedText {
    bytes: Zeroizing<Vec<u8>>,
    /// Where in the text each byte comes from.
    from: Vec<Range<usize>>,
}

impl FoldedText {
    /// With `decodes`, percent-encoding is decoded, also if the text was encoded several times.
    pub(super) fn new(text: &str, decodes: bool) -> Self {
        // The full capacity at once: growing would leave a copy behind that is not wiped.
        let bytes = Zeroizing::new(Vec::with_capacity(text.len()));
        let mut folded = Self { bytes, from: Vec::with_capacity(text.len()) };
        for (at, c) in text.char_indices().filter(|(_, c)| counts(*c)) {
            let end = at + c.len_utf8();
            for byte in text.as_bytes().get(at..end).unwrap_or_default() {
                folded.push(*byte, at..end);
                while decodes && folded.decode_last() {}
            }
        }
        folded
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many characters it has.
    pub(super) fn characters(&self) -> usize {
        self.bytes.iter().filter(|byte| **byte & 0b1100_0000 != 0b1000_0000).count()
    }

    /// Marks where the bytes of this range come from.
    pub(super) fn mark(&self, range: Range<usize>, hidden: &mut [bool]) {
        let ends = self.from.get(range).and_then(|from| from.first().zip(from.last()));
        let marked = ends.and_then(|(first, last)| hidden.get_mut(first.start..last.end));
        marked.unwrap_or_default().fill(true);
    }

    fn push(&mut self, byte: u8, from: Range<usize>) {
        if !byte.is_ascii_whitespace() && !b"+\\".contains(&byte) {
            self.bytes.push(byte.to_ascii_lowercase());
            self.from.push(from);
        }
    }

    /// Decodes the escape with which the text ends; false if there is none.
    fn decode_last(&mut self) -> bool {
        let [.., b'%', high, low] = self.bytes[..] else { return false };
        let [Some(high), Some(low)] = [high, low].map(|digit| char::from(digit).to_digit(16))
        else {
            return false;
        };
        let Ok(byte) = u8::try_from(high * 16 + low) else { return false };
        let at = self.bytes.len() - 3;
        let Some((first, last)) = self.from.get(at).zip(self.from.last()) else { return false };
        let from = first.start..last.end;
        self.bytes.truncate(at);
        self.from.truncate(at);
        self.push(byte, from);
        true
    }
}

fn counts(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !misleads(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str, decodes: bool) -> Vec<u8> {
        FoldedText::new(text, decodes).bytes().to_vec()
    }

    #[test]
    fn case_white_space_backslashes_and_what_nobody_sees_do_not_count() {
        assert_eq!(folded("A b+C\\\"\u{a0}d\n\u{200b}\u{1b}", false), b"abc\"d");
        assert_eq!(folded("%41", false), b"%41");
    }

    #[test]
    fn escapes_are_decoded_however_often_they_were_encoded() {
        for text in ["A/é", "%41%2F%C3%A9", "%2541%252f%25c3%25a9", "%25254%31%2f%c3é"] {
            assert_eq!(
                folded(text, true).len(),
                if text.ends_with("c3é") { 5 } else { 4 },
                "{text}"
            );
        }
        assert_eq!(folded("%2541%2B%20b", true), b"ab");
        assert_eq!(folded("%4 %zz %", true), b"%4%zz%");
    }

    #[test]
    fn what_is_marked_is_where_the_bytes_come_from() {
        let text = "é%2541 b";
        let mut hidden = vec![false; text.len()];
        FoldedText::new(text, true).mark(2..4, &mut hidden);
        assert_eq!(hidden, [[false; 2].as_slice(), &[true; 7]].concat());
    }
}
