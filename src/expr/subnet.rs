//! A network or address to test clients against: `apr_ipsubnet_create` and `apr_ipsubnet_test` of apr.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address and the bits of it that count. Of either family; both are kept in 128 bits, IPv4 in the low 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    v6: bool,
    network: u128,
    mask: u128,
}

/// Why a text is no subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubnetError {
    /// It does not look like an address at all; perhaps a host name (`APR_EINVAL`).
    NotAnAddress,
    /// The address is wrong (`APR_EBADIP`).
    BadAddress,
    /// What is behind the slash is wrong (`APR_EBADMASK`).
    BadMask,
}

impl Subnet {
    /// Reads `address`, `address/bits`, `address/netmask`, or the start of an IPv4 address (`10.1`).
    pub fn parse(text: &str) -> Result<Subnet, SubnetError> {
        match text.split_once('/') {
            Some((address, mask)) => Subnet::new(address, Some(mask)),
            None => Subnet::new(text, None),
        }
    }

    /// The same in two parts, as `apr_ipsubnet_create` takes it.
    pub fn new(address: &str, mask: Option<&str>) -> Result<Subnet, SubnetError> {
        if address.is_empty()
            || !address.contains(':') && !address.bytes().all(|c| c == b'.' || c.is_ascii_digit())
        {
            return Err(SubnetError::NotAnAddress);
        }
        let mut subnet = match address.parse::<IpAddr>() {
            // Never an IPv4 address in IPv6 clothes: the test would not find it.
            Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => return Err(SubnetError::BadAddress),
            Ok(ip) => Subnet { v6: ip.is_ipv6(), network: bits_of(ip), mask: full(ip.is_ipv6()) },
            Err(_) if mask.is_none() => start_of_address(address)?,
            Err(_) => return Err(SubnetError::BadAddress),
        };
        if let Some(mask) = mask {
            let width = if subnet.v6 { 128 } else { 32 };
            subnet.mask = match bits(mask) {
                Some(count) if (1..=width).contains(&count) => {
                    full(subnet.v6) & !(full(subnet.v6).checked_shr(count).unwrap_or(0))
                }
                _ if subnet.v6 => return Err(SubnetError::BadMask),
                _ => mask.parse::<Ipv4Addr>().map(|m| bits_of(m.into())).map_err(|_| SubnetError::BadMask)?,
            };
        }
        subnet.network &= subnet.mask;
        Ok(subnet)
    }

    /// Whether `ip` is in it; an IPv4-mapped address counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv6() == self.v6 && bits_of(ip) & self.mask == self.network
    }
}

fn full(v6: bool) -> u128 {
    if v6 { u128::MAX } else { u128::from(u32::MAX) }
}

fn bits_of(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(Ipv6Addr::from(ip.octets())),
    }
}

/// A number as strtol reads it, if it is the whole text.
fn bits(text: &str) -> Option<u32> {
    text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']).parse().ok()
}

/// The legacy form: `10.1.` is `10.1.0.0/16`.
fn start_of_address(text: &str) -> Result<Subnet, SubnetError> {
    if text.len() > "255.255.255.255".len() {
        return Err(SubnetError::BadAddress);
    }
    let (mut network, mut mask, mut shift) = (0u32, 0u32, Some(24u32));
    let text = text.strip_suffix('.').unwrap_or(text);
    for part in text.split('.') {
        let octet: u8 =
            part.parse::<u32>().ok().and_then(|n| n.try_into().ok()).ok_or(SubnetError::BadAddress)?;
        let at = shift.ok_or(SubnetError::BadAddress)?;
        network |= u32::from(octet) << at;
        mask |= 0xff << at;
        shift = at.checked_sub(8);
    }
    Ok(Subnet { v6: false, network: network.into(), mask: mask.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_apr_reads_them() {
        for (subnet, ip, is) in [
            ("10.0.0.0/8", "10.9.8.7", true),
            ("10.0.0.0/255.0.0.0", "11.0.0.1", false),
            ("10.1", "10.1.2.3", true),
            ("10.1.", "10.2.2.3", false),
            ("10.1.2.3/16", "10.1.9.9", true),
            ("127.0.0.1", "::ffff:127.0.0.1", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("2001:db8::/32", "10.0.0.1", false),
            ("::1", "::1", true),
            ("::1/128", "::2", false),
        ] {
            assert_eq!(Subnet::parse(subnet).unwrap().contains(ip.parse().unwrap()), is, "{subnet} {ip}");
        }
        assert!(
            Subnet::parse("1.2.3.4.").is_ok()
                && Subnet::parse("01.2.3.4").is_ok()
                && Subnet::parse("10.0.0.0/ 8").is_ok()
        );
        assert_eq!(Subnet::parse(""), Err(SubnetError::NotAnAddress));
        assert_eq!(Subnet::parse("."), Err(SubnetError::BadAddress));
        assert_eq!(Subnet::parse("10..1"), Err(SubnetError::BadAddress));
        assert_eq!(Subnet::parse("10.0.0.0/"), Err(SubnetError::BadMask));
        assert_eq!(Subnet::parse("a.b"), Err(SubnetError::NotAnAddress));
        assert_eq!(Subnet::parse("1.2.3.4.5"), Err(SubnetError::BadAddress));
        assert_eq!(Subnet::parse("::ffff:1.2.3.4"), Err(SubnetError::BadAddress));
        assert_eq!(Subnet::parse("1.2/16"), Err(SubnetError::BadAddress));
        assert_eq!(Subnet::parse("1.2.3.4/0"), Err(SubnetError::BadMask));
        assert_eq!(Subnet::parse("1.2.3.4/33"), Err(SubnetError::BadMask));
        assert_eq!(Subnet::parse("::1/255.0.0.0"), Err(SubnetError::BadMask));
    }
}
