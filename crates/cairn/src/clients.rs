//! Who is at the other end: the address of the client that a request comes from, through proxies that the
//! configuration names, and how much one address may have under way.
//!
//! Whatever a stranger writes into a header is a stranger's word. So a header is believed from a proxy that is
//! named, only the one that its configuration says that it writes, and in it only what the proxies themselves
//! added: from the right, up to the first hop that is none of them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Hops that are looked at. A request passes two or three; what is beyond these is not looked for.
const HOPS_MAX: usize = 16;

/// The header that proxies write the client's address into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, as most do.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// Addresses and networks that are told from those of all others.
#[derive(Debug, Clone, Default)]
pub struct Addresses(Arc<[IpNet]>);

impl Addresses {
    /// Those of a list of addresses and networks (`10.0.0.0/8`), with spaces in between.
    ///
    /// # Errors
    /// What is wrong with one.
    pub fn parse(list: &str) -> Result<Self, String> {
        let each = list.split_whitespace().map(|text| {
            let network = match text.parse::<IpAddr>() {
                Ok(address) => Some(IpNet::from(address.to_canonical())),
                Err(_) => text.parse().ok(),
            };
            match network {
                Some(IpNet::V6(network)) if network.addr().to_ipv4_mapped().is_some() => Err(
                    format!("{text}: write networks of IPv4 as such, like 10.0.0.0/8"),
                ),
                Some(network) if network.prefix_len() == 0 => Err(format!(
                    "{text} is everybody, and these are to be told from everybody else"
                )),
                Some(network) => Ok(network),
                None => Err(format!(
                    "{text} is no address and no network like 10.0.0.0/8 or fd00::/8"
                )),
            }
        });
        Ok(Self(each.collect::<Result<_, _>>()?))
    }

    /// Whether none is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them.
    pub(crate) fn networks(&self) -> &[IpNet] {
        &self.0
    }

    fn contains(&self, address: IpAddr) -> bool {
        (self.0.iter()).any(|network| network.contains(&address))
    }

    /// The first that is not wholly within one of others.
    pub(crate) fn outside(&self, others: &Self) -> Option<IpNet> {
        let is_within = |one: &IpNet| others.0.iter().any(|other| other.contains(one));
        self.0.iter().find(|one| !is_within(one)).copied()
    }

    /// The first that has an address in common with others.
    pub(crate) fn shared_with(&self, others: &Self) -> Option<IpNet> {
        let meets = |one: &IpNet| {
            let mut others = others.0.iter();
            others.any(|other| other.contains(one) || one.contains(other))
        };
        self.0.iter().find(|one| meets(one)).copied()
    }
}

/// The proxies in front of a server that are believed.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    addresses: Addresses,
    header: ForwardedHeader,
}

impl Proxies {
    /// Those at these addresses, and the header that they write.
    ///
    /// # Errors
    /// What is wrong with an address.
    pub fn parse(list: &str, header: ForwardedHeader) -> Result<Self, String> {
        let addresses = Addresses::parse(list)?;
        Ok(Self { addresses, header })
    }

    /// Whether none is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// Where they are.
    pub(crate) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.addresses.contains(address)
    }

    /// The address of who asks, by what is connected and the headers of the request.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut last = peer.to_canonical();
        if !self.contains(last) {
            return last;
        }
        let name = match self.header {
            ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
            ForwardedHeader::Forwarded => header::FORWARDED,
        };
        // Several lines are one list (RFC 9110, section 5.3).
        let lines: Vec<_> = headers.get_all(name).iter().collect();
        let hops = lines.iter().rev().flat_map(|line| {
            let line = line.to_str().unwrap_or("?");
            let mut hops = match self.header {
                ForwardedHeader::XForwardedFor => line.split(',').map(Some).collect(),
                ForwardedHeader::Forwarded => elements(line),
            };
            hops.reverse();
            hops.into_iter().map(move |hop| match self.header {
                ForwardedHeader::XForwardedFor => node(hop?.trim()),
                ForwardedHeader::Forwarded => whom(hop?),
            })
        });
        for hop in hops.take(HOPS_MAX) {
            // What can't be read was let through or hidden by the proxy before: that is all that is known.
            let Some(address) = hop else { return last };
            last = address;
            if !self.contains(last) {
                return last;
            }
        }
        last
    }
}

/// An address as proxies write it: with a port or without, IPv6 in brackets or bare.
fn node(text: &str) -> Option<IpAddr> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let has_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        let address: Ipv6Addr = address.parse().ok()?;
        return has_port.then_some(IpAddr::from(address).to_canonical());
    }
    let address = text.parse().ok().or_else(|| {
        let (address, port) = text.split_once(':')?;
        let address: std::net::Ipv4Addr = address.parse().ok()?;
        is_port(port).then_some(IpAddr::from(address))
    })?;
    Some(address.to_canonical())
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text.len() <= 5
}

/// The elements of a line of `Forwarded`; nothing stands for what is not closed.
fn elements(line: &str) -> Vec<Option<&str>> {
    let (mut all, mut begin) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                all.push(line.get(begin..at));
                begin = at + 1;
            }
            _ => {}
        }
    }
    // A quote that somebody left open takes in all that follows, also what proxies added.
    all.push(if quoted { None } else { line.get(begin..) });
    all
}

/// For whom an element of `Forwarded` was forwarded.
fn whom(element: &str) -> Option<IpAddr> {
    let mut found = None;
    // A value with a semicolon in quotes is none that is known, and nothing else is taken for one then.
    for pair in element.split(';') {
        let (name, value) = pair.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("for") {
            continue;
        }
        let value = value.trim();
        let value = match value.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"')?,
            // IPv6 and ports are in quotes (RFC 7239, section 6).
            None if value.contains(':') => return None,
            None => value,
        };
        if found.replace(node(value)?).is_some() {
            return None;
        }
    }
    found
}

/// How much each address has of something, up to a bound. One machine can have all addresses of a network of
/// IPv6, so those are counted together.
#[derive(Clone)]
pub(crate) struct ByAddress {
    most: usize,
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One of those that are counted, until it is dropped.
pub(crate) struct Counted {
    address: IpAddr,
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A network of IPv6 that one customer is given, at the least (RFC 6177).
const NETWORK_BITS: u32 = 64;

/// What counts as one address: of IPv6 the network that one client has.
pub(crate) fn one_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() >> (128 - NETWORK_BITS) << (128 - NETWORK_BITS);
            IpAddr::from(Ipv6Addr::from_bits(network))
        }
        address => address,
    }
}

impl ByAddress {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            counts: Arc::default(),
        }
    }

    /// One more, if there may be.
    pub(crate) fn one_more(&self, address: IpAddr) -> Option<Counted> {
        let address = one_network(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Counted {
            address,
            counts: Arc::clone(&self.counts),
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// What one address may have at a time.
#[derive(Clone)]
pub(crate) struct Bounds {
    proxies: Proxies,
    /// Addresses that many clients have, of which nothing is believed: what they write is their clients'.
    shared: Addresses,
    connections: ByAddress,
    requests: ByAddress,
    /// Whether addresses of clients can be told at all.
    are_known: bool,
    /// Whether it was said that an address has too much.
    is_told: Arc<AtomicBool>,
}

impl Bounds {
    /// `hidden`: whether all requests come from proxies that are not named.
    pub(crate) fn new(
        (proxies, shared): (Proxies, Addresses),
        hidden: bool,
        connections: usize,
        requests: usize,
    ) -> Self {
        Self {
            are_known: !(hidden && proxies.is_empty()),
            proxies,
            shared,
            connections: ByAddress::new(connections),
            requests: ByAddress::new(requests),
            is_told: Arc::default(),
        }
    }

    /// Whether an address is one client's, as far as can be told.
    pub(crate) fn tells(&self, client: IpAddr) -> bool {
        self.are_known && !self.proxies.contains(client) && !self.shared.contains(client)
    }

    /// Says the first time what it may come from that an address has too much: from what stands for many clients.
    fn too_many(&self) {
        if !self.is_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "an address has as many connections or requests as one may have (limits.client_connections, \
                 limits.client_at_once), and more are refused: should many clients come through a balancer or \
                 a gateway that passes connections on as they are, name it in http.shared_addresses, and one that \
                 writes for whom it asks in http.trusted_proxies (docs/operations.md). This is said once"
            );
        }
    }

    pub(crate) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        self.proxies.client(peer.ip(), headers)
    }

    /// Whether what is connected is a proxy that is named.
    pub(crate) fn is_proxy(&self, peer: SocketAddr) -> bool {
        self.proxies.contains(peer.ip().to_canonical())
    }

    /// Whether it is one of these proxies that tells the certificates of its clients.
    pub(crate) fn is_one_of(&self, tellers: &Addresses, peer: SocketAddr) -> bool {
        self.is_proxy(peer) && tellers.contains(peer.ip().to_canonical())
    }

    /// A connection of an address: nothing where it has too many. What a proxy has is of many.
    pub(crate) fn connection(&self, peer: IpAddr) -> Option<Option<Counted>> {
        if !self.tells(peer.to_canonical()) {
            return Some(None);
        }
        let counted = self.connections.one_more(peer);
        if counted.is_none() {
            self.too_many();
        }
        counted.map(Some)
    }

    /// A request of a client: nothing where it has too many.
    pub(crate) fn request(&self, client: IpAddr) -> Option<Option<Counted>> {
        // A proxy that names no client is asked by many, too.
        if !self.tells(client) {
            return Some(None);
        }
        let counted = self.requests.one_more(client);
        if counted.is_none() {
            self.too_many();
        }
        counted.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    /// The client, by what is connected and lines of a header.
    fn client(header: ForwardedHeader, peer: &str, lines: &[&str]) -> String {
        let proxies = Proxies::parse("10.0.0.0/8 192.0.2.1 fd00::/8 ::1", header).expect("a list");
        let mut headers = HeaderMap::new();
        let name = match header {
            ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
            ForwardedHeader::Forwarded => header::FORWARDED,
        };
        for line in lines {
            let value = HeaderValue::from_bytes(line.as_bytes()).expect("a value");
            headers.append(&name, value);
        }
        // The other header is nobody's to believe.
        let (other, words) = match header {
            ForwardedHeader::XForwardedFor => (header::FORWARDED, "for=203.0.113.99"),
            ForwardedHeader::Forwarded => (X_FORWARDED_FOR, "203.0.113.99"),
        };
        headers.append(other, HeaderValue::from_static(words));
        let peer = peer.parse().expect("an address");
        proxies.client(peer, &headers).to_string()
    }

    #[test]
    fn x_forwarded_for_is_believed_from_the_right() {
        let long = format!("198.51.100.9{}", ", 10.0.0.1".repeat(100));
        let table: &[(&str, &[&str], &str)] = &[
            // Strangers are believed nothing.
            ("203.0.113.5", &["198.51.100.7"], "203.0.113.5"),
            ("203.0.113.5", &[], "203.0.113.5"),
            ("::ffff:203.0.113.5", &["198.51.100.7"], "203.0.113.5"),
            // A proxy is.
            ("10.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            ("::ffff:10.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            ("192.0.2.1", &["198.51.100.7:49152"], "198.51.100.7"),
            ("::1", &["2001:db8::7"], "2001:db8::7"),
            ("fd00::1", &["[2001:db8::7]:443"], "2001:db8::7"),
            ("10.0.0.1", &["[2001:db8::7]"], "2001:db8::7"),
            ("10.0.0.1", &["::ffff:198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &[], "10.0.0.1"),
            // What the client wrote before is not.
            ("10.0.0.1", &["1.1.1.1, 198.51.100.7"], "198.51.100.7"),
            (
                "10.0.0.1",
                &["1.1.1.1, 198.51.100.7, 10.2.3.4,192.0.2.1"],
                "198.51.100.7",
            ),
            (
                "10.0.0.1",
                &["1.1.1.1", "198.51.100.7", "10.2.3.4"],
                "198.51.100.7",
            ),
            ("10.0.0.1", &["10.9.9.9, 198.51.100.7"], "198.51.100.7"),
            // What can't be read ends it.
            ("10.0.0.1", &["198.51.100.7, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.7, ,10.2.3.4"], "10.2.3.4"),
            ("10.0.0.1", &["198.51.100.7, 10.2.3.4, "], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.7\u{e9}"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.7:port"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.7:123456"], "10.0.0.1"),
            ("10.0.0.1", &["[2001:db8::7"], "10.0.0.1"),
            ("10.0.0.1", &["[198.51.100.7]"], "10.0.0.1"),
            ("10.0.0.1", &["[2001:db8::7]443"], "10.0.0.1"),
            ("10.0.0.1", &["fe80::1%eth0"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.007"], "10.0.0.1"),
            ("10.0.0.1", &["for=198.51.100.7"], "10.0.0.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            // Where all are proxies it is the first of them, and not further than is looked.
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &[long.as_str()], "10.0.0.1"),
        ];
        for (peer, lines, expected) in table {
            let found = client(ForwardedHeader::XForwardedFor, peer, lines);
            assert_eq!(found, *expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn forwarded_is_believed_from_the_right() {
        let table: &[(&str, &[&str], &str)] = &[
            ("203.0.113.5", &["for=198.51.100.7"], "203.0.113.5"),
            ("10.0.0.1", &["for=198.51.100.7"], "198.51.100.7"),
            (
                "10.0.0.1",
                &["For=198.51.100.7;proto=https;by=10.0.0.1"],
                "198.51.100.7",
            ),
            (
                "10.0.0.1",
                &["proto=https ; FOR=\"198.51.100.7:49152\""],
                "198.51.100.7",
            ),
            ("10.0.0.1", &["for=\"[2001:db8::7]:4711\""], "2001:db8::7"),
            ("10.0.0.1", &["for=\"[2001:db8::7]\""], "2001:db8::7"),
            (
                "10.0.0.1",
                &["for=1.1.1.1, for=198.51.100.7, for=10.2.3.4"],
                "198.51.100.7",
            ),
            (
                "10.0.0.1",
                &["for=1.1.1.1", "for=198.51.100.7, for=10.2.3.4"],
                "198.51.100.7",
            ),
            // A client's open quote takes nothing in but what it wrote itself.
            (
                "10.0.0.1",
                &["for=\"1.1.1.1, for=2.2.2.2", "for=198.51.100.7"],
                "198.51.100.7",
            ),
            ("10.0.0.1", &["for=\"1.1.1.1, for=198.51.100.7"], "10.0.0.1"),
            (
                "10.0.0.1",
                &["for=\"a\\\",b\", for=198.51.100.7"],
                "198.51.100.7",
            ),
            // Hidden, or no address.
            ("10.0.0.1", &["for=198.51.100.7, for=_hidden"], "10.0.0.1"),
            ("10.0.0.1", &["for=unknown"], "10.0.0.1"),
            ("10.0.0.1", &["for=198.51.100.7:80"], "10.0.0.1"),
            ("10.0.0.1", &["for=[2001:db8::7]"], "10.0.0.1"),
            (
                "10.0.0.1",
                &["for=198.51.100.7;for=198.51.100.8"],
                "10.0.0.1",
            ),
            ("10.0.0.1", &["by=198.51.100.7"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.7"], "10.0.0.1"),
            ("10.0.0.1", &["for=\"198.51.100.7;x=y\""], "10.0.0.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
        ];
        for (peer, lines, expected) in table {
            let found = client(ForwardedHeader::Forwarded, peer, lines);
            assert_eq!(found, *expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn lists_of_proxies_that_cannot_be() {
        for (list, words) in [
            ("proxy.example", "is no address"),
            ("10.0.0.0/33", "is no address"),
            ("10.0.0.1,10.0.0.2", "is no address"),
            ("0.0.0.0/0", "is everybody"),
            ("::/0", "is everybody"),
            ("::ffff:10.0.0.0/104", "write networks of IPv4"),
        ] {
            let refused = Proxies::parse(list, ForwardedHeader::default());
            let error = refused.expect_err(list);
            assert!(error.contains(words), "{error}");
        }
        let none = Proxies::parse("  ", ForwardedHeader::default());
        assert!(none.is_ok_and(|none| none.is_empty()));
    }

    #[test]
    fn an_address_has_so_many_and_they_come_back() {
        let counts = ByAddress::new(2);
        let at = |text: &str| text.parse::<IpAddr>().expect("an address");
        let one = counts.one_more(at("192.0.2.1")).expect("one");
        let two = counts.one_more(at("::ffff:192.0.2.1")).expect("two");
        assert!(counts.one_more(at("192.0.2.1")).is_none());
        assert!(counts.one_more(at("192.0.2.2")).is_some());
        drop(one);
        assert!(counts.one_more(at("192.0.2.1")).is_some());
        drop(two);
        // A network of IPv6 is one.
        let _both = [
            counts.one_more(at("2001:db8::1")).expect("one"),
            counts.one_more(at("2001:db8::ffff:2")).expect("two"),
        ];
        assert!(counts.one_more(at("2001:db8:0:0:9::3")).is_none());
        assert!(counts.one_more(at("2001:db8:0:1::3")).is_some());
        let left = counts.counts.lock().expect("a lock").len();
        assert_eq!(left, 1, "what nobody has is forgotten");
    }

    #[test]
    fn the_first_refusal_is_told() {
        let told = |bounds: &Bounds| bounds.is_told.load(Ordering::Relaxed);
        let client: IpAddr = "192.0.2.1".parse().expect("an address");
        for ask in [
            |bounds: &Bounds, client| bounds.request(client),
            |bounds: &Bounds, client| bounds.connection(client),
        ] {
            let bounds = Bounds::new(Default::default(), false, 1, 1);
            let held = ask(&bounds, client);
            assert!(held.is_some() && !told(&bounds));
            assert!(ask(&bounds, client).is_none() && told(&bounds.clone()));
        }
    }
}
