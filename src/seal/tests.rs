use std::error::Error as _;
use std::io;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;
use crate::policy::MAX_KEY_RING_BYTES;

const CONTEXT: AeadContext<'_> =
    AeadContext { label: "test", key_context: &[b"acme"], associated_data: &[b"a", b"bc"] };

/// A key for each number, with bytes that differ.
fn bytes(key: u8) -> [u8; 32] {
    std::array::from_fn(|at| key ^ u8::try_from(at * 7).unwrap())
}

fn key(key: u8) -> MasterKey {
    MasterKey::from(bytes(key))
}

fn entry(number: u32, key: u8) -> String {
    format!("{number}:{}", STANDARD.encode(bytes(key)))
}

fn sealed(ring: &KeyRing, text: &[u8]) -> Vec<u8> {
    ring.seal(&CONTEXT, Zeroizing::new(text.to_vec())).unwrap()
}

#[track_caller]
fn fault(result: Result<KeyRing>) -> KeyRingFault {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    error.source().unwrap().downcast_ref::<KeyRingFault>().unwrap().clone()
}

#[test]
fn entries_stand_between_commas_spaces_line_ends_and_comments() {
    let (one, two, three) = (entry(1, 1), entry(20, 2), entry(3, 3));
    let unpadded = format!("4:{}", STANDARD_NO_PAD.encode(bytes(4)));
    for text in [
        format!("{one},{two},{three},{unpadded}"),
        format!("{one} {two}\t{three} ,, {unpadded}\n"),
        format!("# keys\r\n{one}\r\n\r\n{two} # {two}, new\r\n{three}\r\n#{one}\r\n{unpadded}"),
    ] {
        let ring = KeyRing::parse(&text).unwrap();
        assert_eq!(format!("{ring:?}"), "KeyRing { seals: 20, opens: [1, 3, 4, 20] }");
        for (number, byte) in [(1, 1), (20, 2), (3, 3), (4, 4)] {
            assert_eq!(ring.keys().get(number).unwrap().expose(), &bytes(byte));
        }
    }
}

#[test]
fn a_text_that_is_no_ring_says_which_entry_is_wrong_and_how() {
    let good = entry(1, 1);
    let number = 2;
    for text in ["", " ,\n# 1:AAAA\n"] {
        assert_eq!(fault(KeyRing::parse(text)), KeyRingFault::NoKey);
    }
    for wrong in [
        "hello",
        "opens:",
        "opens:AAAA",
        "open:2:AAAA",
        "opens:opens:2:AAAA",
        ":AAAA",
        "+2:AAAA",
        "-2:AAAA",
        "4294967296:AAAA",
        "2x:AAAA",
        "²:AAAA",
    ] {
        let result = KeyRing::parse(&format!("{good}\n{wrong}"));
        assert_eq!(fault(result), KeyRingFault::NotAnEntry { entry: 2 }, "{wrong}");
    }
    for wrong in ["2:A", "2:AA*A", "2:AA==AA==", "2:====", "2:AAB", "2:é"] {
        let result = KeyRing::parse(&format!("{good}\n{wrong}"));
        assert_eq!(fault(result), KeyRingFault::NotBase64 { number }, "{wrong}");
    }
    for bytes in [0, 1, 31, 33, 64] {
        let result = KeyRing::parse(&format!("{good},2:{}", STANDARD.encode(vec![7; bytes])));
        assert_eq!(fault(result), KeyRingFault::WrongLength { number, bytes });
    }
    let double = KeyRing::parse(&format!("{good} 2{good} 01{}", &good[1..]));
    assert_eq!(fault(double), KeyRingFault::DoubleNumber { number: 1 });
    let long = format!("{good}#{}", "x".repeat(MAX_KEY_RING_BYTES - good.len() - 1));
    KeyRing::parse(&long).unwrap();
    assert_eq!(fault(KeyRing::parse(&format!("{long}x"))), KeyRingFault::TooLong);
}

/// A file with a ring in it, which only its user can write.
fn file(name: &str) -> std::path::PathBuf {
    let name = format!("session-warden-{name}-{:016x}", fastrand::u64(..));
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, format!("# first\n{}\n", entry(1, 1))).unwrap();
    #[cfg(unix)]
    mode(&path, 0o600);
    path
}

#[cfg(unix)]
fn mode(path: &Path, mode: u32) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(path, mode).unwrap();
}

#[test]
fn a_ring_is_read_from_a_file() {
    let path = file("read");
    let ring = KeyRing::from_file(&path);
    std::fs::write(&path, [0xff; 50]).unwrap();
    let binary = KeyRing::from_file(&path);
    std::fs::write(&path, vec![b' '; MAX_KEY_RING_BYTES * 2]).unwrap();
    let long = KeyRing::from_file(&path);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(ring.unwrap().keys().sealing.1.expose(), &bytes(1));
    assert_eq!(fault(binary), KeyRingFault::NotText);
    assert_eq!(fault(long), KeyRingFault::TooLong);
    let gone = fault(KeyRing::from_file(&path));
    assert_eq!(gone, KeyRingFault::Unreadable(io::ErrorKind::NotFound));
}

#[cfg(unix)]
#[test]
fn a_ring_in_a_file_that_others_can_write_or_own_is_refused() {
    let path = file("exposed");
    for (bits, refused) in [(0o600, false), (0o444, false), (0o620, true), (0o602, true)] {
        mode(&path, bits);
        let expected = refused.then_some(KeyRingFault::Exposed);
        let found = KeyRing::from_file(&path).map_err(|error| fault(Err(error))).err();
        assert_eq!(found, expected, "{bits:o}");
    }
    mode(&path, 0o600);
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
        assert_eq!(fault(KeyRing::from_file(&path)), KeyRingFault::Exposed);
    }
    std::fs::remove_file(&path).unwrap();
}

#[cfg(unix)]
#[test]
fn a_pipe_or_a_folder_in_the_place_of_a_ring_is_refused_and_not_waited_for() {
    let path = file("pipe");
    std::fs::remove_file(&path).unwrap();
    let made = Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    assert_eq!(fault(KeyRing::from_file(&path)), KeyRingFault::NotAFile);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(fault(KeyRing::from_file(std::env::temp_dir())), KeyRingFault::NotAFile);
}

#[test]
fn keys_that_can_be_guessed_and_keys_that_are_the_same_are_refused() {
    let weak = KeyRingFault::WeakKey { number: 2 };
    let text = |bytes: [u8; 32]| format!("{} 2:{}", entry(1, 1), STANDARD.encode(bytes));
    let few: [u8; 32] = std::array::from_fn(|at| u8::try_from(at % 7).unwrap());
    let enough: [u8; 32] = std::array::from_fn(|at| u8::try_from(at % 8).unwrap());
    for bytes in [[0; 32], [0xff; 32], *b"changemechangemechangemechangeme", few] {
        assert_eq!(fault(KeyRing::parse(&text(bytes))), weak);
    }
    KeyRing::parse(&text(enough)).unwrap();
    let zero = || MasterKey::from([0; 32]);
    assert_eq!(fault(KeyRing::from_keys([RingKey::new(2, zero())])), weak);
    assert_eq!(fault(KeyRing::new(1, key(1)).with(2, zero())), weak);
    assert_eq!(fault(KeyRing::new(1, key(1)).with_opening(2, zero())), weak);

    let equal = KeyRingFault::EqualKeys { number: 2, other: 1 };
    assert_eq!(fault(KeyRing::parse(&text(bytes(1)))), equal);
    assert_eq!(fault(KeyRing::new(1, key(1)).with(2, key(1))), equal);
    let keys = [RingKey::new(1, key(1)), RingKey::new(2, key(1)).opens_only()];
    assert_eq!(fault(KeyRing::from_keys(keys)), equal);
}

#[test]
fn a_key_of_zero_bytes_neither_seals_nor_opens() {
    let ring = KeyRing::new(1, MasterKey::from([0; 32]));
    let refused = ring.seal(&CONTEXT, Zeroizing::new(b"text".to_vec())).unwrap_err();
    let cause = refused.source().unwrap().downcast_ref::<KeyRingFault>().unwrap();
    assert_eq!(*cause, KeyRingFault::WeakKey { number: 1 });
    let text = sealed(&KeyRing::new(1, key(1)), b"text");
    assert_eq!(ring.open(&CONTEXT, &text), Err(OpenFault::UnknownKey(1)));
}

/// What a text looks like in memory, read from the outside.
#[cfg(target_os = "linux")]
mod memory {
    use std::io::{Read, Seek, SeekFrom};

    use super::*;

    const LENGTH: usize = 48;

    /// Made anew each time, so that it lies nowhere but where it is put.
    fn text() -> Zeroizing<Vec<u8>> {
        let mut text = Zeroizing::new(Vec::with_capacity(LENGTH));
        text.extend((0..LENGTH).map(byte));
        text
    }

    fn byte(at: usize) -> u8 {
        u8::try_from(std::hint::black_box(at) * 37 % 251).unwrap() ^ 0xa5
    }

    /// How many times a part of it lies in memory that can be written.
    fn copies() -> usize {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mut memory = std::fs::File::open("/proc/self/mem").unwrap();
        let writable = maps.lines().filter(|line| line.contains(" rw"));
        let mut buffer = Vec::new();
        let mut found = 0;
        for line in writable {
            let range = line.split(' ').next().unwrap().split_once('-').unwrap();
            let [from, to] = [range.0, range.1].map(|at| u64::from_str_radix(at, 16).unwrap());
            buffer.resize(usize::try_from(to - from).unwrap(), 0);
            memory.seek(SeekFrom::Start(from)).unwrap();
            if memory.read_exact(&mut buffer).is_ok() {
                let part = |at: &[u8]| (0..16).all(|of| at[of] == byte(of + 8));
                found += buffer.windows(16).filter(|at| at[0] == byte(8) && part(at)).count();
            }
            buffer.fill(0);
        }
        found
    }

    #[test]
    fn of_a_text_that_was_sealed_and_opened_no_copy_is_left_in_memory() {
        const CHILD: &str = "SESSION_WARDEN_TEST_MEMORY";
        if std::env::var_os(CHILD).is_none() {
            // In a process of its own, whose memory is small.
            let name = "seal::tests::memory::of_a_text_that_was_sealed_and_opened_no_copy_is_left_in_memory";
            let child = Command::new(std::env::current_exe().unwrap());
            let output = { child }.args(["--exact", name]).env(CHILD, "1").output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let ring = KeyRing::new(1, key(1));
        let held = text();
        assert!(copies() >= 1, "it is looked for in the right place");
        drop(held);
        let sealed = ring.seal(&CONTEXT, text()).unwrap();
        let opened = ring.open(&CONTEXT, &sealed).unwrap();
        assert!(*opened == *text() && copies() >= 1);
        drop(opened);
        assert_eq!(copies(), 0);
    }
}

#[test]
fn a_ring_is_read_from_the_environment() {
    const VARIABLE: &str = "SESSION_WARDEN_TEST_KEYS";
    if std::env::var_os(VARIABLE).is_some() {
        let ring = KeyRing::from_env(VARIABLE).unwrap();
        assert_eq!(ring.keys().sealing.1.expose(), &bytes(1));
        return;
    }
    let unset = fault(KeyRing::from_env(VARIABLE));
    assert_eq!(unset, KeyRingFault::Unset { variable: Some(VARIABLE.to_owned()) });
    // A process cannot set its own environment safely, so the test runs once more in another.
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "seal::tests::a_ring_is_read_from_the_environment"])
        .env(VARIABLE, entry(1, 1))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn a_key_in_the_place_of_a_name_or_a_number_is_not_shown() {
    let key = STANDARD.encode(bytes(0x5a));
    let bare = key.trim_end_matches('=');
    let path = std::env::temp_dir().join(bare);
    let results = [
        KeyRing::from_env(bare),
        KeyRing::from_env(&format!("1:{key}")),
        KeyRing::from_file(path),
        KeyRing::parse(&key),
        KeyRing::parse(&format!("{bare}:1")),
        KeyRing::parse(&format!("1:{key}{key}")),
        KeyRing::parse(&format!("1:{bare}!")),
        KeyRing::parse(&format!("opens:{key}")),
        KeyRing::parse(&format!("opens:1:{key}")),
        KeyRing::parse(&format!("1:{key} 1:{key}")),
    ];
    for result in results {
        let error = result.unwrap_err();
        let shown = format!("{error} {error:?} {error:#?} {}", error.source().unwrap());
        assert!(!shown.contains(&bare[..8]) && !shown.contains("90, 93"), "{shown}");
    }
    let ring = KeyRing::parse(&format!("1:{key}")).unwrap();
    let shown = format!("{ring:?} {ring:#?} {:?} {:#?}", ring.keys().sealing, CONTEXT);
    assert!(!shown.contains(&bare[..8]) && !shown.contains("90, 93"), "{shown}");
}

#[test]
fn the_highest_number_seals_and_all_open() {
    let old = KeyRing::new(1, key(1));
    let by_old = sealed(&old, b"text");
    let both = old.clone().with(2, key(2)).unwrap();
    let by_new = sealed(&both, b"text");
    assert_eq!(
        (by_old[1..5].to_vec(), by_new[1..5].to_vec()),
        (vec![0, 0, 0, 1], vec![0, 0, 0, 2])
    );
    assert_eq!(&both.open(&CONTEXT, &by_old).unwrap()[..], b"text");
    assert_eq!(&both.open(&CONTEXT, &by_new).unwrap()[..], b"text");
    // The clone that was there before has not got it, and a removed key opens nothing.
    assert_eq!(old.open(&CONTEXT, &by_new), Err(OpenFault::UnknownKey(2)));
    assert_eq!(KeyRing::new(2, key(2)).open(&CONTEXT, &by_old), Err(OpenFault::UnknownKey(1)));
    let older = both.with(0, key(0)).unwrap();
    assert_eq!(sealed(&older, b"text")[1..5], [0, 0, 0, 2]);
    assert_eq!(fault(older.with(1, key(1))), KeyRingFault::DoubleNumber { number: 1 });
}

#[test]
fn a_key_that_only_opens_does_not_seal_whatever_its_number() {
    let (one, two, three) = (entry(1, 1), entry(2, 2), entry(3, 3));
    let parsed = KeyRing::parse(&format!("opens:{three} {one} opens:{two}")).unwrap();
    let made = KeyRing::new(1, key(1)).with_opening(3, key(3)).unwrap();
    let made = made.with_opening(2, key(2)).unwrap();
    for ring in [parsed, made] {
        assert_eq!(format!("{ring:?}"), "KeyRing { seals: 1, opens: [1, 2, 3] }");
        assert_eq!(sealed(&ring, b"text")[1..5], [0, 0, 0, 1]);
        let by_new = sealed(&KeyRing::new(3, key(3)), b"text");
        assert_eq!(&ring.open(&CONTEXT, &by_new).unwrap()[..], b"text");
        // One that may seal takes over from those below it, and from none above.
        let promoted = ring.with(4, key(4)).unwrap();
        assert_eq!(format!("{promoted:?}"), "KeyRing { seals: 4, opens: [1, 2, 3, 4] }");
        assert_eq!(promoted.succession(), Succession { from: vec![1, 2, 3], to: 4 });
    }
    let before = KeyRing::parse(&format!("{one} {two} opens:{three}")).unwrap();
    assert_eq!(before.succession(), Succession { from: vec![1], to: 2 });
    before.reload(KeyRing::parse(&format!("{two} {three}")).unwrap());
    assert_eq!(before.succession(), Succession { from: vec![2], to: 3 }, "promoted by a reload");
}

#[test]
fn a_ring_has_a_key_that_seals_and_numbers_of_its_own() {
    let opens = |number| RingKey::new(number, key(1)).opens_only();
    assert_eq!(fault(KeyRing::from_keys([])), KeyRingFault::NoKey);
    assert_eq!(fault(KeyRing::from_keys([opens(1), opens(2)])), KeyRingFault::NoSealingKey);
    let text = format!("opens:{} # {}", entry(1, 1), entry(2, 2));
    assert_eq!(fault(KeyRing::parse(&text)), KeyRingFault::NoSealingKey);
    let double = KeyRing::from_keys([opens(1), RingKey::new(1, key(2))]);
    assert_eq!(fault(double), KeyRingFault::DoubleNumber { number: 1 });
    let double = KeyRing::new(1, key(1)).with_opening(1, key(1));
    assert_eq!(fault(double), KeyRingFault::DoubleNumber { number: 1 });
}

#[test]
fn a_reload_reaches_every_clone() {
    let ring = KeyRing::new(1, key(1));
    let clone = ring.clone();
    let before = sealed(&clone, b"text");
    ring.reload(KeyRing::new(2, key(2)));
    assert_eq!(clone.open(&CONTEXT, &before), Err(OpenFault::UnknownKey(1)));
    assert_eq!(sealed(&clone, b"text")[1..5], [0, 0, 0, 2]);
    // The two rings share their keys, not their fate.
    let other = KeyRing::new(3, key(3));
    ring.reload(other.clone());
    other.reload(KeyRing::new(4, key(4)));
    assert_eq!(format!("{clone:?}"), "KeyRing { seals: 3, opens: [3] }");
}

#[test]
fn generated_rings_do_not_open_each_other() {
    let (one, other) = (KeyRing::generate().unwrap(), KeyRing::generate().unwrap());
    let text = sealed(&one, b"text");
    assert_eq!(&one.open(&CONTEXT, &text).unwrap()[..], b"text");
    assert!(matches!(other.open(&CONTEXT, &text), Err(OpenFault::UnknownKey(_))));
    assert_ne!(sealed(&one, b"text"), text, "each text has its own nonce");
}

#[test]
fn a_sealed_text_opens_nowhere_else() {
    let ring = KeyRing::new(1, key(1));
    let text = sealed(&ring, b"text");
    let contexts = [
        AeadContext { label: "tes", ..CONTEXT },
        AeadContext { label: "testacme", key_context: &[], ..CONTEXT },
        AeadContext { key_context: &[b"acm", b"e"], ..CONTEXT },
        AeadContext { key_context: &[b"acme", b""], ..CONTEXT },
        AeadContext { associated_data: &[b"ab", b"c"], ..CONTEXT },
        AeadContext { associated_data: &[b"abc"], ..CONTEXT },
        AeadContext { associated_data: &[b"a", b"bc", b""], ..CONTEXT },
        AeadContext { key_context: &[], associated_data: &[b"acme", b"a", b"bc"], ..CONTEXT },
    ];
    for context in contexts {
        assert_eq!(ring.open(&context, &text), Err(OpenFault::Altered), "{context:?}");
    }
    assert_eq!(KeyRing::new(1, key(2)).open(&CONTEXT, &text), Err(OpenFault::Altered));
    // A number that has the same key does not make another header a good one.
    let ring = KeyRing::new(2, key(1));
    let mut renumbered = text;
    renumbered[4] = 2;
    assert_eq!(ring.open(&CONTEXT, &renumbered), Err(OpenFault::Altered));
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let ring = KeyRing::new(1, key(1));
    let text = sealed(&ring, b"text");
    assert_eq!(text.len(), OVERHEAD + 4);
    for bit in 0..text.len() * 8 {
        let mut flipped = text.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let fault = ring.open(&CONTEXT, &flipped).unwrap_err();
        let expected = match bit / 8 {
            0 => matches!(fault, OpenFault::Malformed),
            1..5 => matches!(fault, OpenFault::UnknownKey(_)),
            _ => matches!(fault, OpenFault::Altered),
        };
        assert!(expected, "bit {bit}: {fault:?}");
    }
    for length in 0..text.len() {
        let fault = ring.open(&CONTEXT, &text[..length]).unwrap_err();
        let expected = if length < OVERHEAD { OpenFault::Malformed } else { OpenFault::Altered };
        assert_eq!(fault, expected, "{length} bytes");
    }
}

#[test]
fn what_another_implementation_sealed_opens() {
    // Made with Python's hmac and a ChaCha20-Poly1305 checked against the draft's example
    // (draft-irtf-cfrg-xchacha appendix A.3.1). A change of the format must be a new version.
    let text = "AQAAAQJkZWZnaGlqa2xtbm9wcXJzdHV2d3h5envOSOL/gpodRULMvvHJv4buVGiE1L1Cz+3Sl++jrJwETo2s2e2mK2XULp7LVjofTrth7PyVj4lxnAg=";
    let text = STANDARD.decode(text).unwrap();
    let ring = KeyRing::new(258, MasterKey::from(std::array::from_fn(|at| at as u8)));
    let associated_data: &[&[u8]] = &[b"device-17", b""];
    let context = AeadContext { label: "test: golden", key_context: &[b"acme"], associated_data };
    let opened = ring.open(&context, &text).unwrap();
    assert_eq!(&opened[..], b"what was sealed by another implementation");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_sealed_opens_in_its_place(
        text in vec(any::<u8>(), 0..300),
        key_context in vec(any::<u8>(), 0..20),
        associated_data in vec(any::<u8>(), 0..20),
    ) {
        let ring = KeyRing::new(1, key(1));
        let (key_context, associated_data) = ([&key_context[..]], [&associated_data[..]]);
        let context = AeadContext {
            label: "test",
            key_context: &key_context,
            associated_data: &associated_data,
        };
        let sealed = ring.seal(&context, Zeroizing::new(text.clone())).unwrap();
        prop_assert_eq!(&ring.open(&context, &sealed).unwrap()[..], &text[..]);
    }

    /// A changed text is refused, or it has the keys that it says.
    #[test]
    fn a_changed_ring_is_refused_or_has_other_keys(
        at in any::<prop::sample::Index>(), other in "\\PC{0,2}", cut in 0_usize..3,
    ) {
        let text = format!("{}, opens:{} # {}", entry(1, 1), entry(2, 2), "é");
        let at = at.index(entry(1, 1).len());
        let changed = format!("{}{other}{}", &text[..at], &text[at + cut..]);
        if let Ok(ring) = KeyRing::parse(&changed) {
            let by_one = sealed(&KeyRing::new(1, key(1)), b"text");
            let same = ring.open(&CONTEXT, &by_one).is_ok();
            let reads_as_before = changed.split([',', ' ', '#']).any(|entry| {
                let (number, key) = entry.split_once(':').unwrap_or_default();
                let key = STANDARD_NO_PAD.decode(key.trim_end_matches('='));
                number.trim_start_matches('0') == "1" && key.is_ok_and(|key| key == bytes(1))
            });
            prop_assert_eq!(same, reads_as_before, "{}", changed);
        }
    }

    #[test]
    fn no_text_makes_a_ring_panic(text in "[0-9:A-Za-z+/=#,\n é]{0,80}", bytes in vec(any::<u8>(), 0..80)) {
        drop(KeyRing::parse(&text));
        prop_assert!(KeyRing::new(1, key(1)).open(&CONTEXT, &bytes).is_err());
    }
}
