//! Where the operator connects on somebody else's word: `auth_url` and the catalogue's endpoints of a Secret, pods'
//! addresses, addresses of a spec. Whoever may write those must not borrow the operator's place in the network.
//!
//! | the address is | then |
//! |---|---|
//! | in a network that the administrator allows (`--allow-cloud-network`) | called |
//! | in a network that the administrator denies (`--deny-cloud-network`) | refused |
//! | loopback, link-local, unspecified, multicast, broadcast or reserved, or a metadata service elsewhere | refused |
//! | any other, a private one too | called |
//!
//! What counts is the address that is dialled, not the name: names are resolved by [`Reach::resolve`], whose answer is
//! what the connection goes to, so a name that changes its mind in between (DNS rebinding) gains nothing.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

pub use ipnet::{IpNet, Ipv4Net};

/// Metadata services that lie outside the link-local networks: Alibaba Cloud, Azure, Oracle Cloud.
const METADATA: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
/// Metadata service of AWS by IPv6, which lies in a private network.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
/// RFC 6052: an IPv4 address lies in its last four bytes.
const NAT64: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];
/// RFC 3056: an IPv4 address lies behind it.
const SIX_TO_FOUR: u16 = 0x2002;

const DENIED: &str = "in a network that the administrator denies";

/// What an address is that nobody is called at; `None`: it may be somebody's.
pub fn never_a_host(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => never_a_host_v4(address),
        IpAddr::V6(address) => match embedded(address) {
            Some(inner) => never_a_host_v4(inner),
            None => never_a_host_v6(address),
        },
    }
}

fn never_a_host_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [127, ..] => Some("a loopback address"),
        [0, ..] => Some("no address"),
        [169, 254, ..] => Some("a link-local address"),
        [224..=239, ..] => Some("a multicast address"),
        [240..=255, ..] => Some("a reserved address"),
        _ if METADATA.contains(&address) => Some("a metadata service"),
        _ => None,
    }
}

fn never_a_host_v6(address: Ipv6Addr) -> Option<&'static str> {
    match address {
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_unspecified() => Some("no address"),
        _ if address.is_unicast_link_local() => Some("a link-local address"),
        _ if address.is_multicast() => Some("a multicast address"),
        METADATA_V6 => Some("a metadata service"),
        _ => None,
    }
}

/// The IPv4 address that packets to this IPv6 address may reach.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let at = |one: u16, two: u16| {
        let ([a, b], [c, d]) = (one.to_be_bytes(), two.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // Mapped (RFC 4291 section 2.5.5.2), and its deprecated predecessor.
        [0, 0, 0, 0, 0, 0 | 0xffff, one, two] => Some(at(one, two)),
        [SIX_TO_FOUR, one, two, ..] => Some(at(one, two)),
        [.., one, two] if segments[..6] == NAT64 => Some(at(one, two)),
        _ => None,
    }
}

/// Where a cloud may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Networks that are called, whatever they are.
    pub allowed: Vec<IpNet>,
    /// Networks that are not called.
    pub denied: Vec<IpNet>,
}

/// An address that is not called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct NotCalled {
    host: String,
    address: IpAddr,
    kind: &'static str,
}

impl fmt::Display for NotCalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, address, kind } = self;
        let leads =
            if *host == address.to_string() { "is".to_owned() } else { format!("leads to {address},") };
        write!(
            f,
            "{host} {leads} {kind}, where the operator calls nobody; correct auth_url, or let the administrator start the operator with --allow-cloud-network"
        )
    }
}

impl Reach {
    /// Whether this address of `host` is called.
    ///
    /// # Errors
    /// Why not.
    pub fn may_call(&self, host: &str, address: IpAddr) -> Result<(), NotCalled> {
        let within =
            |networks: &[IpNet], address: IpAddr| networks.iter().any(|network| network.contains(&address));
        // An IPv4 host by another spelling is the same host to whoever connects.
        let inner = match address {
            IpAddr::V6(address) => embedded(address).map(IpAddr::V4),
            IpAddr::V4(_) => None,
        };
        let kind = match never_a_host(address) {
            _ if inner.is_some_and(|inner| within(&self.denied, inner)) => DENIED,
            _ if within(&self.allowed, address) => return Ok(()),
            _ if within(&self.denied, address) => DENIED,
            Some(kind) => kind,
            None => return Ok(()),
        };
        let host = host.chars().take(253).collect();
        Err(NotCalled { host, address, kind })
    }

    /// The addresses of a name, each of which may be called.
    ///
    /// # Errors
    /// The name has none, or one that is not called: a name with both is not to be trusted with the other either.
    pub async fn resolve(&self, name: &str) -> std::io::Result<Vec<SocketAddr>> {
        let found: Vec<SocketAddr> = tokio::net::lookup_host((name, 0)).await?.collect();
        for at in &found {
            self.may_call(name, at.ip()).map_err(std::io::Error::other)?;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(address: &str) -> Option<&'static str> {
        never_a_host(address.parse().expect("an address"))
    }

    #[test]
    fn a_denied_network_is_denied_in_every_spelling() {
        let net = |text: &str| text.parse::<IpNet>().expect("a network");
        let reach = Reach { allowed: vec![], denied: vec![net("10.96.0.0/12")] };
        for address in ["10.96.0.1", "::ffff:10.96.0.1", "::10.96.0.1", "64:ff9b::a60:1", "2002:a60:1::"] {
            let refusal = reach.may_call("cloud", address.parse().expect("an address")).expect_err(address);
            assert!(refusal.to_string().contains("administrator denies"), "{refusal}");
        }
        assert_eq!(reach.may_call("cloud", "::ffff:10.0.0.1".parse().expect("an address")), Ok(()));
        let open = Reach { allowed: vec![net("::/0")], ..reach };
        assert!(open.may_call("cloud", "::ffff:10.96.0.1".parse().expect("an address")).is_err());
    }

    #[test]
    fn what_can_be_nobodys_address_is_told_in_every_spelling() {
        for (address, expected) in [
            ("127.0.0.1", "a loopback address"),
            ("127.255.3.4", "a loopback address"),
            ("0.0.0.0", "no address"),
            ("0.1.2.3", "no address"),
            ("169.254.169.254", "a link-local address"),
            ("100.100.100.200", "a metadata service"),
            ("168.63.129.16", "a metadata service"),
            ("224.0.0.1", "a multicast address"),
            ("255.255.255.255", "a reserved address"),
            ("::1", "a loopback address"),
            ("::", "no address"),
            ("fe80::1", "a link-local address"),
            ("ff02::1", "a multicast address"),
            ("fd00:ec2::254", "a metadata service"),
            ("::ffff:127.0.0.1", "a loopback address"),
            ("::127.0.0.1", "a loopback address"),
            ("::ffff:169.254.169.254", "a link-local address"),
            ("64:ff9b::a9fe:a9fe", "a link-local address"),
            ("2002:7f00:1::", "a loopback address"),
        ] {
            assert_eq!(kind(address), Some(expected), "{address}");
        }
    }

    #[test]
    fn a_private_cloud_is_somebody() {
        for address in
            ["10.0.0.5", "172.16.3.1", "192.168.1.1", "100.64.0.1", "203.0.113.9", "fd12::1", "2001:db8::1"]
        {
            assert_eq!(kind(address), None, "{address}");
        }
    }

    #[test]
    fn the_administrator_has_the_last_word() {
        let net = |text: &str| text.parse::<IpNet>().expect("a network");
        let reach = Reach { allowed: vec![net("127.0.0.2/32")], denied: vec![net("10.96.0.0/12")] };
        let call = |address: &str| reach.may_call("cloud", address.parse().expect("an address"));
        assert_eq!(call("127.0.0.2"), Ok(()));
        assert!(call("127.0.0.3").is_err());
        assert_eq!(call("10.0.0.1"), Ok(()));
        let refused = call("10.96.0.1").expect_err("it is denied").to_string();
        assert!(
            refused.starts_with("cloud leads to 10.96.0.1, in a network that the administrator denies"),
            "{refused}"
        );
        let only =
            Reach { allowed: vec![net("198.51.100.0/24")], denied: vec![net("0.0.0.0/0"), net("::/0")] };
        assert_eq!(only.may_call("c", [198, 51, 100, 7].into()), Ok(()));
        assert!(only.may_call("c", [203, 0, 113, 7].into()).is_err());
    }

    #[tokio::test]
    async fn a_name_that_leads_to_this_machine_is_refused_when_it_is_resolved() {
        let refused =
            Reach::default().resolve("localhost").await.expect_err("localhost is loopback").to_string();
        assert!(
            refused.contains("localhost leads to") && refused.contains("a loopback address"),
            "{refused}"
        );
    }
}
