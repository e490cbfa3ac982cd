//! Where partners may be: at public addresses, or at this machine where their entry says so; in a private network only
//! where it says that. A name that leads into one's own network would make this server ask what nobody outside may.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Whether a partner may be called at an address as it is written. Names are looked at when they are resolved.
pub(crate) fn may_be_asked(url: &Url, private_network: bool) -> bool {
    let host = url.host_str().unwrap_or_default();
    let literal = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_here = literal.as_ref().is_ok_and(IpAddr::is_loopback);
    let secure = url.scheme() == "https" || (url.scheme() == "http" && is_here);
    let bare = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    let fits = match literal {
        Ok(address) => is_here || private_network || is_public(address),
        Err(_) => !host.is_empty(),
    };
    secure && bare && fits
}

/// Whether anybody in the world may be meant by an address.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        // "This network" (RFC 791), shared by providers (RFC 6598), of protocols (RFC 6890), of benchmarks (RFC 2544),
        // reserved (RFC 1112).
        || a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19))
        || a >= 240;
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    // What carries an address of version 4 leads where that leads.
    if let Some(inner) = address.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    let [.., high, low] = address.segments();
    let inner = Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    if address.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        return is_public_v4(inner);
    }
    // Of what is assigned, only 2000::/3 is public; in it are documentation, and tunnels into version 4 networks.
    let global = first & 0xe000 == 0x2000;
    let special = (first == 0x2001 && (second == 0xdb8 || second == 0))
        || first == 0x2002
        || (first == 0x3fff && second < 0x1000);
    global && !special
}

/// Resolves names to public addresses alone.
pub(crate) struct Public;

impl Resolve for Public {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err("the name leads to no public address".into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_are_told_from_others() {
        for (address, expected) in [
            ("93.184.215.14", true),
            ("8.8.8.8", true),
            ("10.0.0.1", false),
            ("172.16.0.1", false),
            ("172.32.0.1", true),
            ("192.168.1.1", false),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("100.128.0.1", true),
            ("0.0.0.0", false),
            ("192.0.0.8", false),
            ("192.0.2.1", false),
            ("198.18.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("240.0.0.1", false),
            ("2606:2800:21f:cb07::1", true),
            ("::1", false),
            ("::", false),
            ("fe80::1", false),
            ("fd00::1", false),
            ("ff02::1", false),
            ("2001:db8::1", false),
            ("2002:a00:1::1", false),
            ("::ffff:10.0.0.1", false),
            ("::ffff:8.8.8.8", true),
            ("64:ff9b::10.0.0.1", false),
            ("64:ff9b::8.8.8.8", true),
            ("::10.0.0.1", false),
        ] {
            let parsed = address.parse().expect(address);
            assert_eq!(is_public(parsed), expected, "{address}");
        }
    }

    #[test]
    fn only_what_is_safe_is_asked() {
        for (url, private, expected) in [
            ("https://rides.example.org/api", false, true),
            ("http://rides.example.org/api", false, false),
            ("http://rides.example.org/api", true, false),
            ("http://127.0.0.1:8080/api", false, true),
            ("http://[::1]:8080/api", false, true),
            ("http://10.0.0.1/api", true, false),
            ("https://10.0.0.1/api", false, false),
            ("https://10.0.0.1/api", true, true),
            ("https://169.254.169.254/", false, false),
            ("https://u:p@rides.example.org/", false, false),
            ("https://rides.example.org/?x", false, false),
            ("https://rides.example.org/#x", false, false),
            ("ftp://rides.example.org/", false, false),
        ] {
            let parsed = Url::parse(url).expect(url);
            assert_eq!(may_be_asked(&parsed, private), expected, "{url} {private}");
        }
    }
}
