use super::*;
use crate::clock::{Clock, SystemClock};

#[test]
fn a_claim_without_an_answer_is_requested_again_and_one_that_has_not_ended_is_replaced() {
    let (mut claims, now) = (Claims::default(), SystemClock::new().now());
    let (first, none, _) = claims.begin(now);
    assert_eq!((claims.begin(now).0, none), (first, None));
    claims.answered(first, true);
    let (second, replaced, _) = claims.begin(now);
    assert!(second != first && replaced == Some(first));
    claims.answered(second, false);
    let (third, replaced, _) = claims.begin(now);
    assert!(third != second && replaced == Some(first), "the refused one is not in the store");
    claims.answered(third, true);
    claims.ended(first);
    assert_eq!(claims.begin(now).1, Some(third), "what ended was another one");
    claims.ended(third);
    assert_eq!(claims.begin(now).1, None);
}
