use std::collections::HashMap;
use std::error::Error as _;

use proptest::collection::{hash_map, vec};
use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::error::{ErrorKind, Refusal};
use crate::key::SessionKey;
use crate::policy::{USED_TICKETS, USED_TICKETS_PER_TENANT};
use crate::seal::MasterKey;

impl Tickets {
    /// A ticket with its payload.
    fn open<T: DeserializeOwned>(
        &self,
        ticket: &Ticket,
        purpose: Purpose,
        now: SystemTime,
    ) -> Result<Opened<T>> {
        self.verify(ticket, purpose, now)?.read()
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const LATE: ErrorKind = ErrorKind::Refused(Refusal::ChallengeExpired);

/// What a login leaves in a ticket, more or less.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Payload {
    state: String,
    options: HashMap<String, Option<i64>>,
}

fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn session(provider: &str, token_id: &str) -> SessionId {
    let key = SessionKey::new("acme", token_id).unwrap();
    SessionId::new(ProviderName::new(provider).unwrap(), key)
}

fn ring(number: u32, byte: u8) -> KeyRing {
    KeyRing::new(number, MasterKey::from([byte; 32]))
}

fn tickets(ring: &KeyRing) -> Tickets {
    Tickets::new(ring.clone(), USED_TICKETS)
}

fn issued(by: &Tickets, purpose: Purpose) -> Ticket {
    by.issue(purpose, &session("p", "d"), start() + MINUTE, &"payload").unwrap()
}

fn opened(by: &Tickets, ticket: &Ticket) -> Result<Opened<String>> {
    by.open(ticket, Purpose::Login, start())
}

#[track_caller]
fn fault<T: fmt::Debug>(result: Result<T>) -> TicketFault {
    let error = result.unwrap_err();
    let fault = *error.source().unwrap().downcast_ref::<TicketFault>().unwrap();
    let late = matches!(fault, TicketFault::Expired | TicketFault::Used);
    assert_eq!(error.kind(), if late { LATE } else { ErrorKind::InvalidInput });
    fault
}

/// As a request does it: parsed, and opened if it can be.
fn used(by: &Tickets, text: &str) -> Result<Opened<String>> {
    opened(by, &Ticket::parse(text)?)
}

#[test]
fn a_ticket_gives_back_what_it_was_issued_with() {
    let tickets = tickets(&ring(1, 1));
    let ticket = issued(&tickets, Purpose::Login);
    let again = Ticket::parse(ticket.as_str()).unwrap();
    let opened = opened(&tickets, &again).unwrap();
    assert_eq!(opened.session, session("p", "d"));
    assert_eq!((opened.payload.as_str(), opened.expires_at), ("payload", start() + MINUTE));
    assert!(ticket.as_str().len() < 200, "{} bytes", ticket.as_str().len());
}

#[test]
fn a_text_that_no_ticket_has_is_refused_before_it_is_opened() {
    let most = format!("sw1.{}", "A".repeat(MAX_TICKET_BYTES - 4));
    Ticket::parse(most.as_str()).unwrap();
    for text in ["", "sw1", "sw1.", "sw2.AAAA", "AAAA", "sw1.AA=", "sw1.AA+A", " sw1.AAAA"] {
        assert_eq!(fault(text.parse::<Ticket>()), TicketFault::Malformed, "{text}");
    }
    for text in ["sw1.AAAA\n", "sw1.AA.A", "sw1.ÄÄ", "sw1.\0", &format!("{most}A")] {
        assert_eq!(fault(Ticket::parse(text)), TicketFault::Malformed, "{text}");
    }
}

#[test]
fn every_other_character_in_any_place_is_refused() {
    let tickets = tickets(&ring(1, 1));
    // All lengths modulo 3, because the last character has bits to spare in two of them.
    for payload in ["a", "ab", "abc"] {
        let expires = start() + MINUTE;
        let issued = tickets.issue(Purpose::Login, &session("p", "d"), expires, &payload);
        let text = issued.unwrap().as_str().to_owned();
        assert_eq!(used(&tickets, &text).unwrap().payload, payload);
        for at in 0..text.len() {
            let last = at + 1 == text.len();
            let others = if last { 0..128 } else { 65..68 };
            for other in others.map(|byte: u8| char::from(byte)) {
                let mut changed = text.clone();
                changed.replace_range(at..=at, &other.to_string());
                assert!(changed == text || used(&tickets, &changed).is_err(), "{at}: {other:?}");
            }
            assert!(used(&tickets, &text[..at]).is_err(), "cut to {at}");
        }
    }
}

#[test]
fn a_login_is_no_challenge_and_relabelling_makes_it_none() {
    let tickets = tickets(&ring(1, 1));
    for (purpose, other) in [
        (Purpose::Login, Purpose::Challenge),
        (Purpose::Challenge, Purpose::Login),
        (Purpose::Login, Purpose::DeviceLogin),
        (Purpose::DeviceLogin, Purpose::Challenge),
    ] {
        let ticket = issued(&tickets, purpose);
        let wrong = tickets.open::<String>(&ticket, other, start());
        assert_eq!(fault(wrong), TicketFault::OtherPurpose);
        let mut bytes = URL_SAFE_NO_PAD.decode(&ticket.as_str()[4..]).unwrap();
        for (byte, expected) in [
            (other.byte(), TicketFault::Altered),
            (0, TicketFault::Malformed),
            (4, TicketFault::Malformed),
        ] {
            bytes[0] = byte;
            let text = format!("sw1.{}", URL_SAFE_NO_PAD.encode(&bytes));
            let relabelled = Ticket::parse(text).unwrap();
            for asked in [purpose, other] {
                let refused = tickets.open::<String>(&relabelled, asked, start());
                assert_eq!(fault(refused), expected);
            }
        }
    }
}

#[test]
fn a_ticket_opens_while_its_key_is_in_the_ring() {
    let ring = ring(1, 1);
    let here = tickets(&ring);
    let ticket = issued(&here, Purpose::Login);
    let two = MasterKey::from([2; 32]);
    let elsewhere = tickets(&KeyRing::new(1, MasterKey::from([1; 32])));
    opened(&elsewhere, &ticket).unwrap();
    assert_eq!(fault(opened(&tickets(&self::ring(1, 9)), &ticket)), TicketFault::Altered);
    ring.reload(ring.clone().with(2, two.clone()).unwrap());
    opened(&here, &ticket).unwrap();
    let newer = issued(&here, Purpose::Login);
    assert_eq!(fault(opened(&elsewhere, &newer)), TicketFault::UnknownKey);
    ring.reload(KeyRing::new(2, two));
    assert_eq!(fault(opened(&here, &ticket)), TicketFault::UnknownKey);
    opened(&here, &newer).unwrap();
    let other = issued(&tickets(&KeyRing::generate().unwrap()), Purpose::Login);
    assert_eq!(fault(opened(&here, &other)), TicketFault::UnknownKey);
}

#[test]
fn a_ticket_is_good_until_the_moment_it_expires() {
    let tickets = tickets(&ring(1, 1));
    let ticket = issued(&tickets, Purpose::Login);
    let at = |now| tickets.open::<String>(&ticket, Purpose::Login, now);
    let end = start() + MINUTE;
    at(end - Duration::from_millis(1)).unwrap();
    assert_eq!(fault(at(end)), TicketFault::Expired);
    assert_eq!(fault(at(end + MINUTE)), TicketFault::Expired);
    // What was open in time is not used too late.
    let open = opened(&tickets, &ticket).unwrap();
    assert_eq!(fault(tickets.mark_used(&open, end)), TicketFault::Expired);
    let past = UNIX_EPOCH - MINUTE;
    let old = tickets.issue(Purpose::Login, &session("p", "d"), past, &"payload").unwrap();
    assert_eq!(fault(opened(&tickets, &old)), TicketFault::Expired);
}

#[test]
fn a_ticket_says_whose_it_is_before_its_payload_is_read() {
    let tickets = tickets(&ring(1, 1));
    let ticket = issued(&tickets, Purpose::Login);
    let looked = tickets.verify(&ticket, Purpose::Login, start()).unwrap();
    looked.for_provider(&ProviderName::new("p").unwrap()).unwrap();
    let other = looked.for_provider(&ProviderName::new("q").unwrap());
    assert_eq!(fault(other), TicketFault::OtherProvider);
    looked.for_session(&session("p", "d")).unwrap();
    assert_eq!(fault(looked.for_session(&session("p", "e"))), TicketFault::OtherSession);
    assert_eq!(fault(looked.for_session(&session("q", "d"))), TicketFault::OtherProvider);
    assert_eq!(fault(looked.read::<Payload>()), TicketFault::Malformed);
}

#[test]
fn a_payload_carries_secrets() {
    #[derive(Serialize, Deserialize)]
    struct Carrying {
        #[serde(with = "serde_secret")]
        verifier: Secret,
    }
    let tickets = tickets(&ring(1, 1));
    let payload = Carrying { verifier: Secret::from("a\"\n\u{e9}") };
    let expires = start() + MINUTE;
    let ticket = tickets.issue(Purpose::Login, &session("p", "d"), expires, &payload).unwrap();
    let opened = tickets.open::<Carrying>(&ticket, Purpose::Login, start()).unwrap();
    assert_eq!(opened.payload.verifier.expose_secret(), "a\"\n\u{e9}");
    assert_eq!(fault(self::opened(&tickets, &ticket)), TicketFault::Malformed);
}

#[test]
fn a_ticket_is_used_once_unless_it_is_given_back() {
    let tickets = tickets(&ring(1, 1));
    let ticket = issued(&tickets, Purpose::Login);
    let (open, again) = (opened(&tickets, &ticket).unwrap(), opened(&tickets, &ticket).unwrap());
    tickets.mark_used(&open, start()).unwrap();
    assert_eq!(fault(tickets.mark_used(&open, start())), TicketFault::Used);
    assert_eq!(fault(tickets.mark_used(&again, start())), TicketFault::Used);
    let other = opened(&tickets, &issued(&tickets, Purpose::Login)).unwrap();
    tickets.unmark_used(&other.id);
    assert_eq!(fault(tickets.mark_used(&open, start())), TicketFault::Used);
    tickets.unmark_used(&open.id);
    tickets.mark_used(&again, start()).unwrap();
    tickets.mark_used(&other, start()).unwrap();
}

#[test]
fn used_tickets_are_remembered_until_they_expire() {
    let tickets = tickets(&ring(1, 1));
    let open = |minutes: u32| spendable(&tickets, &session("p", "d"), minutes * MINUTE);
    let (short, long) = (open(1), open(3));
    tickets.mark_used(&long, start()).unwrap();
    tickets.mark_used(&short, start()).unwrap();
    assert_eq!(fault(tickets.mark_used(&short, start())), TicketFault::Used);
    tickets.mark_used(&open(2), start() + MINUTE).unwrap();
    assert_eq!(fault(tickets.mark_used(&long, start() + MINUTE)), TicketFault::Used);
    // The clock is set back: what was forgotten is not as good as new.
    assert_eq!(fault(tickets.mark_used(&short, start())), TicketFault::Expired);
    tickets.unmark_used(&long.id);
    tickets.mark_used(&open(4), start()).unwrap();
}

fn spendable(by: &Tickets, session: &SessionId, life: Duration) -> Opened<String> {
    let ticket = by.issue(Purpose::Login, session, start() + life, &"payload").unwrap();
    opened(by, &ticket).unwrap()
}

fn of_tenant(tenant: &str) -> SessionId {
    let key = SessionKey::new(tenant, "d").unwrap();
    SessionId::new(ProviderName::new("p").unwrap(), key)
}

#[test]
fn a_tenant_that_logs_in_without_end_has_only_its_own_tickets_forgotten() {
    let tickets = tickets(&ring(1, 1));
    let other = spendable(&tickets, &of_tenant("other"), MINUTE);
    tickets.mark_used(&other, start()).unwrap();
    let hostile = of_tenant("hostile");
    let ticket = |at: usize| {
        spendable(&tickets, &hostile, MINUTE + Duration::from_millis(at.try_into().unwrap()))
    };
    let (oldest, next) = (ticket(1), ticket(2));
    tickets.mark_used(&oldest, start()).unwrap();
    tickets.mark_used(&next, start()).unwrap();
    for at in 3..=USED_TICKETS_PER_TENANT {
        tickets.mark_used(&ticket(at), start()).unwrap();
    }
    assert_eq!(fault(tickets.mark_used(&oldest, start())), TicketFault::Used, "up to the bound");
    tickets.mark_used(&ticket(USED_TICKETS_PER_TENANT + 1), start()).unwrap();
    assert_eq!(fault(tickets.mark_used(&next, start())), TicketFault::Used);
    assert_eq!(fault(tickets.mark_used(&other, start())), TicketFault::Used);
    tickets.mark_used(&oldest, start()).unwrap();
    let third = spendable(&tickets, &of_tenant("third"), MINUTE);
    tickets.mark_used(&third, start()).unwrap();
}

#[test]
fn when_all_tenants_fill_the_list_the_one_with_the_most_loses_its_oldest() {
    let tickets = Tickets::new(ring(1, 1), 4);
    let spend = |tenant: &str, minutes: u32| {
        let open = spendable(&tickets, &of_tenant(tenant), minutes * MINUTE);
        tickets.mark_used(&open, start()).unwrap();
        open
    };
    let small = spend("small", 1);
    let big = [2, 3, 4].map(|minutes| spend("big", minutes));
    spend("new", 5);
    assert_eq!(fault(tickets.mark_used(&small, start())), TicketFault::Used);
    for open in &big[1..] {
        assert_eq!(fault(tickets.mark_used(open, start())), TicketFault::Used);
    }
    tickets.unmark_used(&big[2].id);
    tickets.mark_used(&big[0], start()).unwrap();
}

#[test]
fn a_ticket_of_one_application_does_not_open_in_another_that_has_its_keys() {
    let of = |name: &str| tickets(&ring(1, 1)).of_application(name.to_owned());
    let (shop, admin, none) = (of("shop"), of("admin"), tickets(&ring(1, 1)));
    let ticket = issued(&shop, Purpose::Login);
    opened(&of("shop"), &ticket).unwrap();
    for other in [&admin, &none, &of("")] {
        assert_eq!(fault(opened(other, &ticket)), TicketFault::Altered);
        let theirs = issued(other, Purpose::Login);
        assert_eq!(fault(opened(&shop, &theirs)), TicketFault::Altered);
    }
}

#[test]
fn a_ticket_says_whether_a_browser_keeps_it_in_a_cookie() {
    let tickets = tickets(&ring(1, 1));
    let of = |bytes: usize| {
        let id = session("p", "d");
        tickets.issue(Purpose::Login, &id, start() + MINUTE, &"x".repeat(bytes)).unwrap()
    };
    assert!(of(1000).fits_cookie() && !of(4000).fits_cookie());
    let exact = |bytes: usize| Ticket::parse(format!("sw1.{}", "A".repeat(bytes - 4))).unwrap();
    assert!(exact(MAX_COOKIE_BYTES).fits_cookie());
    assert!(!exact(MAX_COOKIE_BYTES + 1).fits_cookie());
    // Of a login with its longest names.
    let longest = "n".repeat(crate::key::MAX_KEY_BYTES);
    let key = SessionKey::new(longest.as_str(), longest.as_str()).unwrap();
    let id = SessionId::new(ProviderName::new(longest.as_str()).unwrap(), key);
    let payload = "x".repeat(1024);
    let ticket = tickets.issue(Purpose::Login, &id, start() + MINUTE, &payload).unwrap();
    assert!(ticket.fits_cookie(), "{} bytes", ticket.as_str().len());
}

#[test]
fn a_payload_fits_up_to_the_longest_ticket_and_no_further() {
    let tickets = tickets(&ring(1, 1));
    let names = 3 * 2 + "p".len() + "acme".len() + "d".len();
    let most = MAX_PLAINTEXT_BYTES - 16 - 8 - names - "\"\"".len();
    let issue = |bytes: usize| {
        tickets.issue(Purpose::Login, &session("p", "d"), start() + MINUTE, &"x".repeat(bytes))
    };
    let ticket = issue(most).unwrap();
    assert!((MAX_TICKET_BYTES - 4..=MAX_TICKET_BYTES).contains(&ticket.as_str().len()));
    assert_eq!(used(&tickets, ticket.as_str()).unwrap().payload.len(), most);
    for bytes in [most + 1, most * 10] {
        let error = issue(bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("no room"), "{error}");
    }
    let unserializable: HashMap<Vec<u8>, u8> = HashMap::from([(vec![1], 1)]);
    let id = session("p", "d");
    let error = tickets.issue(Purpose::Login, &id, start() + MINUTE, &unserializable).unwrap_err();
    assert!(error.to_string().contains("serializable"), "{error}");
}

#[test]
fn nothing_of_a_ticket_its_key_or_its_payload_is_ever_shown() {
    const CANARY: &str = "canary7f3a";
    let ring = KeyRing::new(1, MasterKey::from(*b"canary7f3a-canary7f3a-canary7f3a"));
    let tickets = Tickets::new(ring.clone(), 1);
    let issue = |payload: &str| {
        tickets.issue(Purpose::Login, &session("p", "d"), start() + MINUTE, &payload)
    };
    let ticket = issue(CANARY).unwrap();
    let open = tickets.open::<String>(&ticket, Purpose::Login, start()).unwrap();
    let mut shown = format!("{ring:?} {tickets:#?} {ticket:?} {open:#?}");
    let listen = |error: Error| format!("{error} {error:#?} {:?}", error.source());
    let looked = || tickets.verify(&ticket, Purpose::Login, start()).unwrap();
    let altered = format!("{}A", ticket.as_str());
    tickets.mark_used(&open, start()).unwrap();
    let used_twice = tickets.mark_used(&open, start());
    let errors = [
        listen(issue(&CANARY.repeat(2000)).unwrap_err()),
        listen(looked().read::<u64>().unwrap_err()),
        listen(looked().read::<Payload>().unwrap_err()),
        listen(looked().for_session(&session("p", "e")).unwrap_err()),
        listen(used_twice.unwrap_err()),
        listen(tickets.verify(&ticket, Purpose::Challenge, start()).unwrap_err()),
        listen(tickets.verify(&ticket, Purpose::Login, start() + MINUTE).unwrap_err()),
        listen(used(&tickets, &altered).unwrap_err()),
        listen(Ticket::parse(format!("{CANARY}{}", ticket.as_str())).unwrap_err()),
    ];
    shown.extend(errors);
    let text = &ticket.as_str()["sw1.".len()..];
    for secret in [CANARY, &text[..12], &text[text.len() - 12..]] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn every_fault_says_what_to_do_in_words_of_its_own() {
    let faults = [
        TicketFault::Malformed,
        TicketFault::UnknownKey,
        TicketFault::Altered,
        TicketFault::Expired,
        TicketFault::OtherPurpose,
        TicketFault::OtherProvider,
        TicketFault::OtherSession,
        TicketFault::Used,
    ];
    let words: Vec<_> = faults.iter().map(|fault| Error::from(*fault).to_string()).collect();
    for (at, words_of_one) in words.iter().enumerate() {
        assert!(words_of_one.contains("; ") && !words_of_one.ends_with('.'), "{words_of_one}");
        assert!(!words[..at].contains(words_of_one));
    }
}

fn payloads() -> impl Strategy<Value = Payload> {
    let options = hash_map(any::<String>(), any::<Option<i64>>(), 0..4);
    (any::<String>(), options).prop_map(|(state, options)| Payload { state, options })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_ticket_holds_comes_back(
        payload in payloads(),
        names in vec("[\\p{L}\\p{N} /%.&&[^\u{115f}\u{1160}\u{3164}\u{ffa0}]]{1,60}", 3),
        life in 1_u64..100_000_000_000,
    ) {
        let tickets = tickets(&ring(1, 1));
        let key = SessionKey::new(names[0].as_str(), names[1].as_str()).unwrap();
        let session = SessionId::new(ProviderName::new(names[2].as_str()).unwrap(), key);
        let expires = start() + Duration::from_millis(life);
        let ticket = tickets.issue(Purpose::Challenge, &session, expires, &payload).unwrap();
        let parsed = Ticket::parse(ticket.as_str()).unwrap();
        let opened = tickets.open::<Payload>(&parsed, Purpose::Challenge, start()).unwrap();
        prop_assert_eq!(opened.payload, payload);
        prop_assert_eq!((opened.session, opened.expires_at), (session, expires));
    }

    #[test]
    fn a_changed_cut_or_longer_ticket_is_refused(
        at in any::<prop::sample::Index>(),
        other in prop_oneof!["[A-Za-z0-9_-]{1,5}", "\\PC{1,3}"],
        payload in "[a-z]{0,5}",
    ) {
        let tickets = tickets(&ring(1, 1));
        let expires = start() + MINUTE;
        let issued = tickets.issue(Purpose::Login, &session("p", "d"), expires, &payload).unwrap();
        let text = issued.as_str();
        let (before, after) = text.split_at(at.index(text.len()));
        let replaced = format!("{before}{other}{}", after.get(other.len()..).unwrap_or(""));
        let inserted = format!("{before}{other}{after}");
        for changed in [replaced, inserted, before.to_owned(), after.to_owned()] {
            prop_assert!(changed == text || used(&tickets, &changed).is_err());
        }
    }

    #[test]
    fn no_text_makes_a_ticket_panic(
        any in any::<String>(),
        code in "[A-Za-z0-9_-]{0,90}",
        sealed in vec(any::<u8>(), 0..60),
    ) {
        let tickets = tickets(&ring(1, 1));
        let known = [&[1, 1, 0, 0, 0, 1], &sealed[..]].concat();
        let known = URL_SAFE_NO_PAD.encode(known);
        for text in [any, format!("sw1.{code}"), format!("sw1.{known}")] {
            prop_assert!(used(&tickets, &text).is_err());
        }
        prop_assert!(ticket_codec::decode(&sealed).is_none_or(|body| body.payload.len() <= sealed.len()));
    }
}
