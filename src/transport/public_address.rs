//! Tells public addresses from internal ones, and knows this machine's own addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

use super::OWN_ADDRESSES_KEPT;
use crate::clock::{BootTime, Clock, SystemClock};

/// The prefix of a NAT64 gateway, under which it reaches IPv4 addresses (RFC 6052 section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nat64 {
    prefix: u128,
    bits: u8,
}

impl Nat64 {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (prefix, bits) = text.split_once('/')?;
        let (prefix, bits) = (prefix.parse::<Ipv6Addr>().ok()?.to_bits(), bits.parse().ok()?);
        let known = matches!(bits, 32 | 40 | 48 | 56 | 64 | 96);
        (known && prefix & (u128::MAX >> bits) == 0).then_some(Self { prefix, bits })
    }

    /// The IPv4 address that is reached through this one.
    fn held(self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let bits = address.to_bits();
        if bits & !(u128::MAX >> self.bits) != self.prefix {
            return None;
        }
        // The ninth octet is not part of the IPv4 address.
        let behind = address.octets().into_iter().enumerate().skip(usize::from(self.bits / 8));
        let mut octets = behind.filter(|(at, _)| *at != 8).map(|(_, octet)| octet);
        let mut next = || octets.next();
        Some(Ipv4Addr::new(next()?, next()?, next()?, next()?))
    }
}

/// Whether an address belongs to the public internet (the registries of RFC 6890). `nat64` are
/// the prefixes of the network's own gateways.
pub(super) fn is_public(address: IpAddr, nat64: &[Nat64]) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match nat64.iter().find_map(|prefix| prefix.held(address)) {
            Some(held) => is_public_v4(held),
            None => is_public_v6(address),
        },
    }
}

/// The addresses of this machine's interfaces, cached for [`OWN_ADDRESSES_KEPT`]. A server that
/// listens on all interfaces may trust connections from the machine itself.
pub(super) struct OwnAddresses {
    read: fn() -> io::Result<Vec<IpAddr>>,
    clock: Arc<dyn Clock>,
    kept: Mutex<Option<(BootTime, Vec<IpAddr>)>>,
}

impl OwnAddresses {
    pub(super) fn of_machine() -> Self {
        let read = || Ok(if_addrs::get_if_addrs()?.iter().map(if_addrs::Interface::ip).collect());
        Self::new(read, Arc::new(SystemClock::new()))
    }

    fn new(read: fn() -> io::Result<Vec<IpAddr>>, clock: Arc<dyn Clock>) -> Self {
        Self { read, clock, kept: Mutex::default() }
    }

    /// Whether the address is one of them; true as well if they cannot be read.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        let now = self.clock.now().boot;
        let mut kept = self.kept.lock();
        if let Some((at, own)) = &*kept
            && now.since(*at) < OWN_ADDRESSES_KEPT
        {
            return own.contains(&address);
        }
        let Ok(own) = (self.read)() else { return true };
        let has = own.contains(&address);
        *kept = Some((now, own));
        has
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, last] = address.octets();
    let reserved = match (a, b, c) {
        (0 | 10 | 127, ..) => true,   // this network, private, loopback
        (100, 64..=127, _) => true,   // shared by a provider's customers (RFC 6598)
        (168, 63, 129) => last == 16, // the platform of Azure speaks to its machines from there
        (169, 254, _) => true,        // link-local, where clouds keep their metadata
        (172, 16..=31, _) => true,    // private
        (192, 0, 0 | 2) => true,      // protocol assignments, documentation
        (192, 88, 99) => true,        // the former 6to4 relays
        (192, 168, _) => true,        // private
        (198, 18 | 19, _) => true,    // benchmarks
        (198, 51, 100) => true,       // documentation
        (203, 0, 113) => true,        // documentation
        (224..=255, ..) => true,      // multicast, reserved, broadcast
        _ => false,
    };
    !reserved
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // NAT64 and 6to4 lead to the IPv4 address that they hold.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(held(high, low)),
        [0x2002, high, low, ..] => is_public_v4(held(high, low)),
        // Protocol assignments (Teredo among them) and documentation.
        [0x2001, 0x0000..=0x01ff | 0x0db8, ..] => false,
        [0x3fff, 0x0000..=0x0fff, ..] => false,
        // All other global addresses begin with 001. What does not is loopback, unspecified,
        // v4-mapped, link-local, unique local, multicast or not assigned.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

fn held(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::provider::test_bench::StillClock;

    fn public(address: &str) -> bool {
        is_public(address.parse().unwrap(), &[])
    }

    #[test]
    fn addresses_of_the_public_internet_are_public() {
        for address in [
            "1.1.1.1",
            "93.184.215.14",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:200::1",
            "2a00:1450:4001::8a",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ] {
            assert!(public(address), "{address}");
        }
    }

    #[test]
    fn every_other_address_is_not() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:1.1.1.1",
            "::ffff:127.0.0.1",
            "::7f00:1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "fec0::1",
            "ff02::1",
            "2001::1",
            "2001:2::1",
            "2001:db8::1",
            "3fff::1",
            "100::1",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::1",
            "2002:c0a8:1::1",
        ] {
            assert!(!public(address), "{address}");
        }
    }

    #[test]
    fn the_address_of_azures_platform_is_not_public_and_its_neighbours_are() {
        assert!(!public("168.63.129.16") && !public("64:ff9b::a83f:8110"));
        assert!(public("168.63.129.15") && public("168.63.129.17"));
    }

    #[test]
    fn an_address_behind_a_nat64_gateway_is_judged_by_the_address_that_it_holds() {
        // RFC 6052 section 2.4 has 192.0.2.33 under each of these prefixes.
        for (prefix, holder) in [
            ("2a00:db8::/32", "2a00:db8:c000:221::"),
            ("2a00:db8:100::/40", "2a00:db8:1c0:2:21::"),
            ("2a00:db8:122::/48", "2a00:db8:122:c000:2:2100::"),
            ("2a00:db8:122:300::/56", "2a00:db8:122:3c0:0:221::"),
            ("2a00:db8:122:344::/64", "2a00:db8:122:344:c0:2:2100::"),
            ("2a00:db8:122:344::/96", "2a00:db8:122:344::c000:221"),
        ] {
            let holder: Ipv6Addr = holder.parse().unwrap();
            let nat64 = Nat64::parse(prefix).unwrap();
            assert_eq!(nat64.held(holder), Some(Ipv4Addr::new(192, 0, 2, 33)), "{prefix}");
            assert!(public(&holder.to_string()) && !is_public(holder.into(), &[nat64]), "{prefix}");
            assert_eq!(nat64.held("2a00:999::1".parse().unwrap()), None);
        }
        let nat64 = [Nat64::parse("2a00:122:344::/96").unwrap()];
        for (held, allowed) in [("169.254.169.254", false), ("127.0.0.1", false), ("1.1.1.1", true)]
        {
            let held: Ipv4Addr = held.parse().unwrap();
            let holder = Ipv6Addr::from_bits(nat64[0].prefix | u128::from(held.to_bits()));
            assert_eq!(is_public(holder.into(), &nat64), allowed, "{holder}");
        }
    }

    #[test]
    fn a_nat64_prefix_has_one_of_six_lengths_and_no_bit_behind_it() {
        for text in ["", "::", "::/0", "::/129", "1.2.3.4/32", "2a00::1/96", "2a00::/33", "x/96"] {
            assert_eq!(Nat64::parse(text), None, "{text}");
        }
    }

    #[test]
    fn own_addresses_are_read_again_when_their_time_is_over_and_unreadable_ones_could_be_any() {
        static READ: AtomicUsize = AtomicUsize::new(0);
        const FIRST: IpAddr = IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1));
        const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(2, 2, 2, 2));
        let read = || match READ.fetch_add(1, Ordering::Relaxed) {
            0 => Ok(vec![FIRST]),
            1 => Ok(vec![SECOND]),
            _ => Err(io::Error::other("no more")),
        };
        let clock = Arc::new(StillClock::new());
        let own = OwnAddresses::new(read, Arc::<StillClock>::clone(&clock));
        assert!(own.has(FIRST) && !own.has(SECOND));
        clock.advance(OWN_ADDRESSES_KEPT.checked_sub(Duration::from_millis(1)).unwrap());
        assert!(own.has(FIRST) && !own.has(SECOND));
        clock.advance(Duration::from_millis(1));
        assert!(!own.has(FIRST) && own.has(SECOND));
        clock.advance(OWN_ADDRESSES_KEPT);
        assert!(own.has(FIRST), "it is not known whose it is");
    }

    #[test]
    fn this_machines_own_addresses_are_found() {
        assert!(OwnAddresses::of_machine().has(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert!(!OwnAddresses::of_machine().has("1.1.1.1".parse().unwrap()));
    }
}
