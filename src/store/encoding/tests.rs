use super::*;

#[test]
fn every_code_is_read_as_what_was_written_and_others_are_not_read() {
    for code in -1..=8 {
        let is_phase = (0..=5).contains(&code) && code != 2;
        assert_eq!(decode_phase(code).map(encode_phase), is_phase.then_some(code));
        let intent = decode_intent(code).map(|(intent, journal)| encode_intent(intent, journal));
        assert_eq!(intent, (0..=5).contains(&code).then_some(code));
        assert_eq!(
            decode_lost_reason(code).map(encode_lost_reason),
            (0..=7).contains(&code).then_some(code)
        );
    }
}

#[test]
fn a_count_has_room_to_be_counted_on() {
    for (number, good) in [(-1, false), (0, true), (i64::MAX / 2, true), (i64::MAX, false)] {
        assert_eq!(is_counter(number), good, "{number}");
    }
}

#[test]
fn times_come_back_also_from_before_1970_and_beyond_what_has_room() {
    for nanos in [i64::MIN + 1, -1, 0, 1, i64::MAX] {
        assert_eq!(encode_wall_time(decode_wall_time(nanos)), nanos);
    }
    let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
    assert_eq!(encode_wall_time(far), i64::MAX);
    assert_eq!(encode_boot_time(decode_boot_time(17)), 17);
    assert_eq!(decode_boot_time(-1), BootTime::default());
}
