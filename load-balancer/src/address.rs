//! Which addresses a backend may have: a guard against a discovery source that is wrong or was taken over.
//!
//! Whoever can write a DNS zone, a file or a Kubernetes service can point a balancer at any address: at a stranger's
//! server, or at the metadata service of the cloud with its credentials. Where backends are known to stand on private
//! networks, [`AddressPolicy::PrivateOnly`] refuses everything else, by an allow-list: a range that is not known to be
//! private is not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Which addresses backends may have.
///
/// # Examples
/// ```
/// use tenfold_load_balancer::AddressPolicy;
///
/// let policy = AddressPolicy::PrivateOnly;
/// assert!(policy.check("10.0.0.7:80".parse()?).is_ok());
/// assert!(policy.check("[::ffff:8.8.8.8]:80".parse()?).is_err());
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum AddressPolicy {
    /// Every address. The default.
    #[default]
    Any,
    /// Private addresses only:
    ///
    /// | range | what | source |
    /// |---|---|---|
    /// | 127.0.0.0/8, ::1 | loopback | RFC 1122 3.2.1.3, RFC 4291 2.5.3 |
    /// | 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 | private use | RFC 1918 |
    /// | 100.64.0.0/10 | shared by carriers and clusters | RFC 6598 |
    /// | 169.254.0.0/16, fe80::/10 | link-local | RFC 3927, RFC 4291 2.5.6 |
    /// | fc00::/7 | unique local | RFC 4193 |
    ///
    /// An IPv4 address mapped into IPv6 (::ffff:0:0/96) is judged by the IPv4 address. All else is refused: public,
    /// unspecified, multicast, broadcast and documentation addresses, and those that carry an IPv4 address in another
    /// way (6to4, NAT64), since a gateway may lead them out. So are the addresses within the private ranges at which
    /// clouds serve credentials to whoever asks (169.254.169.254, 169.254.170.2, 100.100.100.200, fd00:ec2::254).
    PrivateOnly,
}

impl AddressPolicy {
    /// Whether a backend may have this address.
    ///
    /// # Errors
    /// [`NotPrivate`] if it may not.
    pub fn check(self, address: SocketAddr) -> Result<(), NotPrivate> {
        match self {
            Self::Any => Ok(()),
            Self::PrivateOnly if is_private(address.ip()) => Ok(()),
            Self::PrivateOnly => Err(NotPrivate { address }),
        }
    }
}

/// An address that [`AddressPolicy::PrivateOnly`] refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address} is not a private address")]
#[non_exhaustive]
pub struct NotPrivate {
    /// The address.
    pub address: SocketAddr,
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_private_v4(ip),
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or_else(|| is_private_v6(ip), is_private_v4),
    }
}

fn is_private_v4(ip: Ipv4Addr) -> bool {
    // RFC 6598 section 7: 100.64.0.0/10.
    let is_shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 0x40;
    let is_private = ip.is_loopback() || ip.is_private() || ip.is_link_local() || is_shared;
    is_private && !METADATA_V4.contains(&ip)
}

fn is_private_v6(ip: Ipv6Addr) -> bool {
    let head = ip.segments()[0];
    // RFC 4193 section 3.1: fc00::/7. RFC 4291 section 2.5.6: fe80::/10.
    let is_unique_local = head & 0xfe00 == 0xfc00;
    let is_link_local = head & 0xffc0 == 0xfe80;
    (ip.is_loopback() || is_unique_local || is_link_local) && ip != METADATA_V6
}

/// Metadata services of EC2, GCE, Azure and others; of ECS tasks; of Alibaba Cloud.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(169, 254, 169, 254), Ipv4Addr::new(169, 254, 170, 2), Ipv4Addr::new(100, 100, 100, 200)];
/// That of EC2 over IPv6.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

#[cfg(test)]
mod tests {
    use super::*;

    /// The first and last address of each private range, then their neighbours outside.
    const PRIVATE: &[&str] = &[
        "127.0.0.0",
        "127.0.0.1",
        "127.255.255.255",
        "10.0.0.0",
        "10.255.255.255",
        "172.16.0.0",
        "172.31.255.255",
        "192.168.0.0",
        "192.168.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "169.254.0.0",
        "169.254.255.255",
        "::1",
        "fc00::",
        "fcff:ffff::1",
        "fd00::",
        "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "fe80::",
        "fe80::1",
        "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "::ffff:10.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:100.64.0.1",
    ];
    const REFUSED: &[&str] = &[
        // Unspecified, broadcast, multicast.
        "0.0.0.0",
        "::",
        "::ffff:0.0.0.0",
        "0.0.0.1",
        "255.255.255.255",
        "224.0.0.1",
        "239.255.255.255",
        "ff02::1",
        "ff05::1",
        "::ffff:224.0.0.1",
        // Documentation, benchmarking and reserved.
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "2001:db8::1",
        "3fff::1",
        "198.18.0.1",
        "240.0.0.1",
        "192.0.0.1",
        // Beside the private ranges.
        "126.255.255.255",
        "128.0.0.0",
        "9.255.255.255",
        "11.0.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.255.255",
        "192.169.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "::2",
        "fbff::1",
        "fe00::1",
        "fe7f:ffff::1",
        "fec0::1",
        // Public, also in disguise: mapped, compatible, 6to4, NAT64 (well-known and local), Teredo.
        "8.8.8.8",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "::10.0.0.1",
        "::ffff:0:10.0.0.1",
        "2002:a00:1::1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::10.0.0.1",
        "2001::1",
        // Metadata services.
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "fd00:ec2::254",
    ];

    fn verdict(ip: &str, policy: AddressPolicy) -> Result<(), NotPrivate> {
        policy.check(SocketAddr::new(ip.parse().unwrap(), 80))
    }

    #[test]
    fn private_addresses_pass_and_others_are_named_in_the_error() {
        for ip in PRIVATE {
            assert_eq!(verdict(ip, AddressPolicy::PrivateOnly), Ok(()), "{ip}");
        }
        for ip in REFUSED {
            let address = SocketAddr::new(ip.parse().unwrap(), 80);
            assert_eq!(verdict(ip, AddressPolicy::PrivateOnly), Err(NotPrivate { address }), "{ip}");
            assert_eq!(verdict(ip, AddressPolicy::Any), Ok(()), "{ip}");
        }
    }

    /// Every /16 of IPv4 against a table of prefixes written as numbers.
    #[test]
    fn every_block_of_ipv4_is_judged_as_the_table_says() {
        let prefixes: [(u32, u32); 6] = [
            (0x7f00_0000, 8),
            (0x0a00_0000, 8),
            (0xac10_0000, 12),
            (0xc0a8_0000, 16),
            (0x6440_0000, 10),
            (0xa9fe_0000, 16),
        ];
        for block in 0..=u32::from(u16::MAX) {
            let ip = block << 16 | 0x1234;
            let listed = prefixes.iter().any(|(prefix, length)| (ip ^ prefix) >> (32 - length) == 0);
            assert_eq!(is_private(IpAddr::V4(ip.into())), listed, "{}", Ipv4Addr::from(ip));
            assert_eq!(is_private(IpAddr::V6(Ipv4Addr::from(ip).to_ipv6_mapped())), listed, "{}", Ipv4Addr::from(ip));
        }
    }

    /// Every /16 of IPv6.
    #[test]
    fn every_block_of_ipv6_is_judged_as_the_table_says() {
        for head in 0..=u16::MAX {
            let ip = IpAddr::V6(Ipv6Addr::new(head, 1, 2, 3, 4, 5, 6, 7));
            let listed = (0xfc00..=0xfdff).contains(&head) || (0xfe80..=0xfebf).contains(&head);
            assert_eq!(is_private(ip), listed, "{ip}");
        }
    }
}
