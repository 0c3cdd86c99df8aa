//! Hints for texts that are not networks: ranges, netmasks, missing octets, names.

use ipnet::{IpNet, Ipv4Net};
use std::net::{IpAddr, Ipv4Addr};

/// The error for a text that is not a network, with a form to copy.
pub(super) fn not_one(text: &str) -> String {
    let (what, form) = meant(text.trim())
        .unwrap_or_else(|| (" is not a network", "10.1.0.0/16, fd00::/8 or one address such as 10.1.0.7".to_owned()));
    format!("{text:?}{what}: write {form}")
}

fn meant(text: &str) -> Option<(&'static str, String)> {
    let is_one = |text: &str| text.parse::<IpNet>().is_ok() || text.parse::<IpAddr>().is_ok();
    // Postfix writes lists in one text, and IPv6 in brackets.
    let plain = text.replace(['[', ']'], "");
    let several: Vec<&str> = plain.split([',', ' ', ';']).filter(|part| !part.is_empty()).collect();
    if several.len() > 1 && several.iter().all(|part| is_one(part)) {
        let each: Vec<String> = several.iter().take(NETWORKS_SHOWN_MAX).map(|part| format!("{part:?}")).collect();
        return Some((" is several networks in one string", format!("each by itself: {}", each.join(", "))));
    }
    if plain != text && is_one(&plain) {
        return Some((" has brackets", plain));
    }
    if let Some((first, last)) = text.split_once('-')
        && let (Ok(first), Ok(last)) = (first.trim().parse::<IpAddr>(), last.trim().parse::<IpAddr>())
    {
        return Some((" is a range of addresses, not a network", around(first, last)?));
    }
    if let Some((address, mask)) = text.split_once('/') {
        let network = netmask(address, mask).or_else(|| short(address, mask));
        if let Some(network) = network {
            return Some((" is not a network", network.to_string()));
        }
        let address: IpAddr = address.parse().ok()?;
        let (most, whole) = if address.is_ipv4() { (32, 24) } else { (128, 64) };
        let form = IpNet::new(address, whole).ok()?.trunc();
        let what = if most == 32 {
            " has a prefix length that is not 0 to 32"
        } else {
            " has a prefix length that is not 0 to 128"
        };
        return Some((what, format!("for example {form}")));
    }
    if text.contains('*') {
        let octets: Vec<&str> = text.split('.').take_while(|part| part.parse::<u8>().is_ok()).collect();
        let bits = u8::try_from(octets.len() * 8).ok()?;
        return Some((" has a wildcard, and networks have a prefix length", filled(&octets, bits)?.to_string()));
    }
    let is_name = text.contains(|c: char| c.is_ascii_alphabetic()) && !text.contains(':');
    is_name.then(|| (" is a name, and networks are made of IP addresses", "10.1.0.0/16 or 10.1.0.7".to_owned()))
}

/// The networks of a range, or the smallest network around it where they would be many.
fn around(first: IpAddr, last: IpAddr) -> Option<String> {
    let (first, last) = (first.min(last), first.max(last));
    let exact: Vec<String> = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            ipnet::Ipv4Subnets::new(first, last, 0).take(NETWORKS_SHOWN_MAX + 1).map(|net| net.to_string()).collect()
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            ipnet::Ipv6Subnets::new(first, last, 0).take(NETWORKS_SHOWN_MAX + 1).map(|net| net.to_string()).collect()
        }
        _ => return None,
    };
    if exact.len() <= NETWORKS_SHOWN_MAX {
        return Some(exact.join(", "));
    }
    let widest: IpNet = if first.is_ipv4() { "0.0.0.0/0".parse() } else { "::/0".parse() }.ok()?;
    let longest = (0..=widest.max_prefix_len()).rev().filter_map(|length| IpNet::new(first, length).ok());
    longest.map(|net| net.trunc()).find(|net| net.contains(&last)).map(|net| format!("the network around it, {net}"))
}

const NETWORKS_SHOWN_MAX: usize = 4;

/// `10.0.0.0/255.0.0.0`.
fn netmask(address: &str, mask: &str) -> Option<IpNet> {
    let (address, mask): (Ipv4Addr, Ipv4Addr) = (address.parse().ok()?, mask.parse().ok()?);
    Some(IpNet::V4(Ipv4Net::with_netmask(address, mask).ok()?.trunc()))
}

/// `10.1/16`.
fn short(address: &str, bits: &str) -> Option<IpNet> {
    let octets: Vec<&str> = address.split('.').collect();
    let numbers = octets.len() < 4 && octets.iter().all(|part| part.parse::<u8>().is_ok());
    numbers.then(|| filled(&octets, bits.parse().ok()?)).flatten()
}

fn filled(octets: &[&str], bits: u8) -> Option<IpNet> {
    let mut all = [0; 4];
    for (index, part) in octets.iter().take(4).enumerate() {
        all[index] = part.parse().ok()?;
    }
    Some(IpNet::V4(Ipv4Net::new(Ipv4Addr::from(all), bits).ok()?.trunc()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_to_copy_is_given() {
        for (text, want) in [
            ("10.20.0.0-10.20.0.255", "write 10.20.0.0/24"),
            ("10.20.0.1-10.20.0.99", "write the network around it, 10.20.0.0/25"),
            ("10.20.0.9 - 10.20.0.8", "write 10.20.0.8/31"),
            ("fd00::-fd00::f", "write fd00::/124"),
            ("10.0.0.0/255.255.0.0", "write 10.0.0.0/16"),
            ("10.0.0/8", "write 10.0.0.0/8"),
            ("10.1/16", "write 10.1.0.0/16"),
            ("10.20.*", "write 10.20.0.0/16"),
            ("10.20.*.*", "write 10.20.0.0/16"),
            ("*", "write 0.0.0.0/0"),
            ("10.0.0.0/33", "0 to 32: write for example 10.0.0.0/24"),
            ("fd00::/129", "0 to 128: write for example fd00::/64"),
            ("mail.example.com", "is a name"),
            ("127.0.0.0/8, 10.0.0.0/8", "each by itself: \"127.0.0.0/8\", \"10.0.0.0/8\""),
            ("10.0.0.1 10.0.0.2", "each by itself: \"10.0.0.1\", \"10.0.0.2\""),
            ("127.0.0.0/8 [::1]/128", "each by itself: \"127.0.0.0/8\", \"::1/128\""),
            ("[::1]/128", "has brackets: write ::1/128"),
            ("[fd00::1]", "has brackets: write fd00::1"),
            ("10.0.0.256", "is not a network: write 10.1.0.0/16"),
            ("", "is not a network: write"),
            ("10.0.0.0/", "write for example 10.0.0.0/24"),
        ] {
            let told = not_one(text);
            assert!(text.parse::<IpNet>().is_err() && told.contains(want), "{text}: {told}");
        }
    }
}
