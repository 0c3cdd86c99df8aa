//! The PROXY protocol, versions 1 and 2: the address of a client behind a load balancer.
//!
//! Read only from proxies that the operator configured: any other client could claim any address. Strict: a malformed header
//! ends the connection. Limits: 107 octets for version 1, 16 + 2,048 for version 2 (TLVs are skipped).
//! HAProxy's proxy-protocol.txt, §2.1, §2.2; AWS Network Load Balancers speak version 2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The contents of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProxyHeader {
    /// The client's address.
    Client(SocketAddr),
    /// The proxy's own connection (a health check), or an unknown client.
    Unknown,
}

/// Why there is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct ProxyError(&'static str);

const V1_OCTETS_MAX: usize = 107;
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED_OCTETS: usize = 16;
const V2_VARIABLE_OCTETS_MAX: usize = 2_048;

/// Reads the header at the beginning of `octets`: its contents and length. `None`: incomplete.
///
/// # Errors
/// [`ProxyError`] as soon as it cannot become a header any more.
pub(super) fn parse(octets: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyError> {
    let shorter = octets.len().min(V2_SIGNATURE.len());
    if octets[..shorter] == V2_SIGNATURE[..shorter] {
        return if shorter == V2_SIGNATURE.len() { parse_v2(octets) } else { Ok(None) };
    }
    parse_v1(octets)
}

fn parse_v1(octets: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyError> {
    const PREFIX: &[u8] = b"PROXY ";
    let shorter = octets.len().min(PREFIX.len());
    if octets[..shorter] != PREFIX[..shorter] {
        return Err(ProxyError("connection does not begin with a PROXY header"));
    }
    let window = &octets[..octets.len().min(V1_OCTETS_MAX)];
    // A line that ends with LF alone cannot become a header.
    if let Some(end) = memchr::memchr(b'\n', window)
        && (end == 0 || window[end - 1] != b'\r')
    {
        return Err(ProxyError("PROXY line must end with CR LF"));
    }
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if window.len() == V1_OCTETS_MAX { Err(ProxyError("PROXY line is too long")) } else { Ok(None) };
    };
    let line = std::str::from_utf8(&window[..end]).map_err(|_| ProxyError("PROXY line is not ASCII"))?;
    let words: Vec<&str> = line.split(' ').collect();
    let header = match words[..] {
        ["PROXY", "UNKNOWN", ..] => ProxyHeader::Unknown,
        ["PROXY", "TCP4", source, destination, source_port, destination_port] => {
            let source: Ipv4Addr = address(source)?;
            let _: Ipv4Addr = address(destination)?;
            port(destination_port)?;
            client(IpAddr::V4(source), port(source_port)?)
        }
        ["PROXY", "TCP6", source, destination, source_port, destination_port] => {
            let source: Ipv6Addr = address(source)?;
            let _: Ipv6Addr = address(destination)?;
            port(destination_port)?;
            client(IpAddr::V6(source), port(source_port)?)
        }
        _ => return Err(ProxyError("PROXY line is malformed")),
    };
    Ok(Some((header, end + 2)))
}

fn address<T: std::str::FromStr>(text: &str) -> Result<T, ProxyError> {
    text.parse().map_err(|_| ProxyError("PROXY line has a malformed address"))
}

fn port(text: &str) -> Result<u16, ProxyError> {
    let digits = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(ProxyError("PROXY line has a malformed port"))
}

fn parse_v2(octets: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyError> {
    let Some(&[version_command, family, high, low]) = octets.get(12..16).and_then(|four| four.first_chunk()) else {
        return Ok(None);
    };
    if version_command >> 4 != 2 {
        return Err(ProxyError("PROXY header has an unknown version"));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > V2_VARIABLE_OCTETS_MAX {
        return Err(ProxyError("PROXY header is too long"));
    }
    let end = V2_FIXED_OCTETS + length;
    let Some(addresses) = octets.get(V2_FIXED_OCTETS..end) else { return Ok(None) };
    let short = ProxyError("PROXY header is shorter than its addresses");
    let header = match (version_command & 0x0f, family) {
        // LOCAL: the proxy's own connection.
        (0, _) => ProxyHeader::Unknown,
        // PROXY, TCP over IPv4: source, destination, source port, destination port.
        (1, 0x11) => {
            let block: &[u8; 12] = addresses.first_chunk().ok_or(short)?;
            let source = Ipv4Addr::new(block[0], block[1], block[2], block[3]);
            client(IpAddr::V4(source), u16::from_be_bytes([block[8], block[9]]))
        }
        // PROXY, TCP over IPv6.
        (1, 0x21) => {
            let block: &[u8; 36] = addresses.first_chunk().ok_or(short)?;
            let source: [u8; 16] = *block.first_chunk().ok_or(short)?;
            client(IpAddr::V6(Ipv6Addr::from(source)), u16::from_be_bytes([block[32], block[33]]))
        }
        (1, 0x00) => ProxyHeader::Unknown,
        (1, _) => return Err(ProxyError("PROXY header is not of a TCP connection")),
        _ => return Err(ProxyError("PROXY header has an unknown command")),
    };
    Ok(Some((header, end)))
}

fn client(address: IpAddr, port: u16) -> ProxyHeader {
    ProxyHeader::Client(SocketAddr::new(address.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE.as_slice(), &[0x20 | command, family], &length, addresses].concat()
    }

    #[test]
    fn headers_are_read_at_every_cut() {
        let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x9c, 0x40, 0, 25];
        let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &[0; 16], &[0x9c, 0x40, 0, 25], &[3, 0, 1, 9]].concat();
        let mapped = [&[0; 10][..], &[0xff, 0xff, 192, 0, 2, 7], &[0; 16], &[0x9c, 0x40, 0, 25]].concat();
        for (name, wire, want) in [
            ("v1", b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 25\r\n".to_vec(), Some("192.0.2.7:40000")),
            ("v1, IPv6", b"PROXY TCP6 2001:db8::7 ::1 40000 25\r\n".to_vec(), Some("[2001:db8::7]:40000")),
            ("v1, unknown", b"PROXY UNKNOWN\r\n".to_vec(), None),
            ("v1, unknown with words", b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            ("v2", v2(1, 0x11, &v4), Some("192.0.2.7:40000")),
            ("v2, IPv6 and a TLV", v2(1, 0x21, &v6), Some("[2001:db8::7]:40000")),
            ("v2, mapped", v2(1, 0x21, &mapped), Some("192.0.2.7:40000")),
            ("v2, local", v2(0, 0, b""), None),
            ("v2, unspecified", v2(1, 0, b"x"), None),
        ] {
            let want = want.map_or(ProxyHeader::Unknown, |text| ProxyHeader::Client(text.parse().unwrap()));
            for cut in 0..wire.len() {
                assert_eq!(parse(&wire[..cut]), Ok(None), "{name}, cut at {cut}");
            }
            let followed = [&wire[..], b"EHLO x\r\n"].concat();
            assert_eq!(parse(&followed), Ok(Some((want, wire.len()))), "{name}");
        }
    }

    #[test]
    fn what_is_no_header_is_refused_at_once() {
        for (name, wire) in [
            ("smtp", b"EHLO x\r\n".to_vec()),
            ("lower case", b"proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n".to_vec()),
            ("address of another family", b"PROXY TCP4 ::1 ::1 1 2\r\n".to_vec()),
            ("bad port", b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n".to_vec()),
            ("port too large", b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n".to_vec()),
            ("missing word", b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n".to_vec()),
            ("LF alone", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n".to_vec()),
            ("LF alone, and more", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\nEHLO x\r\n".to_vec()),
            ("endless", [b"PROXY ".as_slice(), &[b'x'; 200]].concat()),
            ("v2, version 1", [V2_SIGNATURE.as_slice(), &[0x11, 0x11, 0, 0]].concat()),
            ("v2, too long", [V2_SIGNATURE.as_slice(), &[0x21, 0x11, 0xff, 0xff]].concat()),
            ("v2, short addresses", v2(1, 0x11, &[1, 2, 3])),
            ("v2, datagram", v2(1, 0x12, &[0; 12])),
            ("v2, unknown command", v2(5, 0x11, &[0; 12])),
        ] {
            assert!(parse(&wire).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(octets in proptest::collection::vec(any::<u8>(), 0..200), v2_first: bool) {
            let wire = if v2_first { [V2_SIGNATURE.as_slice(), &octets].concat() } else { octets };
            let _ = parse(&wire);
        }
    }
}
