//! Finds the application of a client, by TLS client certificate, AUTH name, client network, listener, or several of them.
//!
//! The most specific match wins: certificate before AUTH name, AUTH name before network, the longer network before the
//! shorter, network before listener; of two that are equal in this order, the one with more criteria. An index makes the cost of one
//! lookup independent of the number of applications: each is indexed by its most specific criterion, and only those with
//! a property of this client are compared.

use crate::mail::{Client, ClientAddress, ClientCertificate};
use ipnet::IpNet;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;

/// How an application is recognised. Every criterion that is set must match, by any of its alternatives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MatchCriteria {
    /// A verified client certificate.
    pub certificates: Vec<CertificateMatch>,
    /// An AUTH name, whose password was verified.
    pub identities: Vec<String>,
    /// A network that contains the client's address.
    pub networks: Vec<IpNet>,
    /// The listener that the client connected to.
    pub listeners: Vec<String>,
}

/// The part of a certificate that is compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CertificateMatch {
    /// SHA-256 of the DER, lower-case hex.
    Fingerprint(String),
    /// The whole subject: `CN=billing, O=Example`.
    Subject(String),
    /// One of the subject's alternative names.
    Name(String),
}

/// How specific a match is. Larger is more specific; fields are compared in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Specificity {
    certificate: bool,
    identity: bool,
    /// Length of the longest matching prefix plus one, IPv4 counted as the IPv6 it maps to; 0 without network.
    prefix: u8,
    listener: bool,
}

impl MatchCriteria {
    /// Whether no criterion is set.
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty()
            && self.identities.is_empty()
            && self.networks.is_empty()
            && self.listeners.is_empty()
    }

    /// The criteria that a client matches, as text for an operator.
    pub(super) fn why(&self, client: &Client) -> String {
        let mut met = Vec::new();
        let certificate = certificate(client);
        let shown = self.certificates.iter().find(|wanted| certificate.is_some_and(|shown| wanted.fits(shown)));
        met.extend(shown.map(|wanted| format!("certificate {wanted}")));
        let name = client.identity.as_ref().map(|identity| identity.name());
        let name = self.identities.iter().find(|wanted| Some(wanted.as_str()) == name);
        met.extend(name.map(|name| format!("AUTH name {name}")));
        let address = address(client);
        let around = self.networks.iter().filter(|network| address.is_some_and(|address| network.contains(&address)));
        met.extend(around.max_by_key(|network| specificity_of(network)).map(|network| format!("network {network}")));
        let listener = self.listeners.iter().find(|name| ***name == *client.listener);
        met.extend(listener.map(|name| format!("listener {name}")));
        met.join(", ")
    }

    /// All criteria, as text for an operator.
    pub(super) fn texts(&self) -> Vec<String> {
        let certificates = self.certificates.iter().map(|wanted| format!("certificate {wanted}"));
        let identities = self.identities.iter().map(|name| format!("AUTH name {name}"));
        let networks = self.networks.iter().map(|network| format!("network {network}"));
        let listeners = self.listeners.iter().map(|name| format!("listener {name}"));
        certificates.chain(identities).chain(networks).chain(listeners).collect()
    }

    /// Every combination of alternatives that matches.
    fn claims(&self) -> impl Iterator<Item = Claim<'_>> {
        alternatives(&self.certificates).flat_map(move |certificate| {
            alternatives(&self.identities).flat_map(move |identity| {
                alternatives(&self.networks).flat_map(move |network| {
                    let network = network.map(IpNet::trunc);
                    alternatives(&self.listeners).map(move |listener| (certificate, identity, network, listener))
                })
            })
        })
    }

    fn meets(&self, client: &Client) -> Option<Specificity> {
        let mut specificity = Specificity::default();
        if !self.certificates.is_empty() {
            let shown = certificate(client)?;
            self.certificates.iter().find(|wanted| wanted.fits(shown))?;
            specificity.certificate = true;
        }
        if !self.identities.is_empty() {
            let name = client.identity.as_ref()?.name();
            self.identities.iter().find(|wanted| *wanted == name)?;
            specificity.identity = true;
        }
        if !self.networks.is_empty() {
            let address = address(client)?;
            let longest =
                self.networks.iter().filter(|network| network.contains(&address)).map(specificity_of).max()?;
            specificity.prefix = longest;
        }
        if !self.listeners.is_empty() {
            self.listeners.iter().find(|name| **name == *client.listener)?;
            specificity.listener = true;
        }
        Some(specificity)
    }
}

impl CertificateMatch {
    fn fits(&self, certificate: &ClientCertificate) -> bool {
        match self {
            Self::Fingerprint(wanted) => *wanted == certificate.fingerprint,
            Self::Subject(wanted) => !wanted.is_empty() && *wanted == certificate.subject,
            Self::Name(wanted) => certificate.names.contains(wanted),
        }
    }
}

impl fmt::Display for CertificateMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fingerprint(text) => write!(f, "fingerprint:{text}"),
            Self::Subject(text) => write!(f, "subject:{text}"),
            Self::Name(text) => write!(f, "name:{text}"),
        }
    }
}

/// The index of all applications. Values are positions in the list of applications.
#[derive(Clone, Debug, Default)]
pub(super) struct AppMatcher {
    all: Vec<MatchCriteria>,
    certificates: HashMap<CertificateMatch, Vec<usize>>,
    identities: HashMap<String, Vec<usize>>,
    /// Network → applications, and the prefix lengths that occur.
    networks: HashMap<IpNet, Vec<usize>>,
    prefix_lengths: Vec<(bool, u8)>,
    listeners: HashMap<String, Vec<usize>>,
}

impl AppMatcher {
    /// Builds the index.
    pub(super) fn new(all: Vec<MatchCriteria>) -> Self {
        let mut index = Self { all, ..Self::default() };
        for place in 0..index.all.len() {
            let demands = index.all[place].clone();
            if !demands.certificates.is_empty() {
                add(&mut index.certificates, demands.certificates, place);
            } else if !demands.identities.is_empty() {
                add(&mut index.identities, demands.identities, place);
            } else if !demands.networks.is_empty() {
                add(&mut index.networks, demands.networks.iter().map(IpNet::trunc).collect(), place);
            } else {
                add(&mut index.listeners, demands.listeners, place);
            }
        }
        let mut lengths: Vec<(bool, u8)> =
            index.networks.keys().map(|network| (network.addr().is_ipv4(), network.prefix_len())).collect();
        lengths.sort_unstable();
        lengths.dedup();
        index.prefix_lengths = lengths;
        index
    }

    /// The index of the application of this client; of equal matches, the first.
    pub(super) fn recognise(&self, client: &Client) -> Option<usize> {
        let mut best: Option<(Specificity, usize)> = None;
        let mut look = |places: Option<&Vec<usize>>| {
            for &place in places.into_iter().flatten() {
                let Some(specificity) = self.all[place].meets(client) else { continue };
                let better = best.is_none_or(|(known, at)| specificity > known || specificity == known && place < at);
                if better {
                    best = Some((specificity, place));
                }
            }
        };
        if let Some(shown) = certificate(client) {
            look(self.certificates.get(&CertificateMatch::Fingerprint(shown.fingerprint.clone())));
            look(self.certificates.get(&CertificateMatch::Subject(shown.subject.clone())));
            for name in &shown.names {
                look(self.certificates.get(&CertificateMatch::Name(name.clone())));
            }
        }
        if let Some(identity) = &client.identity {
            look(self.identities.get(identity.name()));
        }
        if let Some(address) = address(client) {
            for &(is_ipv4, length) in &self.prefix_lengths {
                if is_ipv4 == address.is_ipv4() {
                    look(IpNet::new(address, length).ok().and_then(|network| self.networks.get(&network.trunc())));
                }
            }
        }
        look(self.listeners.get(&*client.listener));
        best.map(|(_, place)| place)
    }

    /// Pairs of applications that can match the same client with equal specificity. Their order in the file decides then, which
    /// the operator may not have intended. Of several, each is paired with the first.
    ///
    /// The work grows with the number of applications, not with its square.
    pub(super) fn overlaps(&self) -> BTreeSet<(usize, usize)> {
        let mut firsts: HashMap<Claim<'_>, usize> = HashMap::new();
        let mut pairs = BTreeSet::new();
        for (place, demands) in self.all.iter().enumerate().filter(|(_, demands)| !demands.is_empty()) {
            for claim in demands.claims().take(CLAIMS_MAX) {
                let first = *firsts.entry(claim).or_insert(place);
                if first != place {
                    pairs.insert((first, place));
                }
            }
        }
        pairs
    }
}

/// One alternative of every criterion: a combination that one client can have.
type Claim<'a> = (Option<&'a CertificateMatch>, Option<&'a String>, Option<IpNet>, Option<&'a String>);

/// The number of combinations of one application that [`AppMatcher::overlaps`] compares (networks times names). Others are not
/// compared, so that one application cannot delay the start.
const CLAIMS_MAX: usize = 100_000;

/// Every alternative of a criterion; one `None` if it is not set.
fn alternatives<T>(demand: &[T]) -> impl Iterator<Item = Option<&T>> + Clone {
    demand.iter().map(Some).chain(demand.is_empty().then_some(None))
}

fn add<K: std::hash::Hash + Eq>(index: &mut HashMap<K, Vec<usize>>, keys: Vec<K>, place: usize) {
    for key in keys {
        index.entry(key).or_default().push(place);
    }
}

fn certificate(client: &Client) -> Option<&ClientCertificate> {
    client.tls.as_ref()?.client_certificate.as_deref()
}

fn address(client: &Client) -> Option<IpAddr> {
    match client.address {
        ClientAddress::Ip(address) => Some(address.ip()),
        ClientAddress::Unix | ClientAddress::Unknown => None,
    }
}

/// The prefix length plus one, IPv4 counted as the IPv6 it maps to.
fn specificity_of(network: &IpNet) -> u8 {
    let mapped = if network.addr().is_ipv4() { 96 } else { 0 };
    network.prefix_len() + mapped + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Identity, SessionId, TlsInfo};
    use std::sync::Arc;

    fn client(address: &str, listener: &str, identity: Option<&str>, certificate_name: Option<&str>) -> Client {
        let address = if address == "unix" { ClientAddress::Unix } else { ClientAddress::Ip(address.parse().unwrap()) };
        let mut client = Client::new(SessionId::fresh(), address, listener.into());
        client.identity = identity.map(Identity::new);
        client.tls = certificate_name.map(|name| TlsInfo {
            version: String::new(),
            cipher: String::new(),
            client_certificate: Some(Arc::new(ClientCertificate {
                fingerprint: "f00d".to_owned(),
                subject: "CN=x".to_owned(),
                names: vec![name.to_owned()],
            })),
        });
        client
    }

    fn networks(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_most_specific_application_is_the_one() {
        let apps = vec![
            MatchCriteria { listeners: vec!["main".into()], ..MatchCriteria::default() },
            MatchCriteria { networks: networks(&["10.0.0.0/8"]), ..MatchCriteria::default() },
            MatchCriteria { networks: networks(&["10.1.0.0/16", "2001:db8::/32"]), ..MatchCriteria::default() },
            MatchCriteria { identities: vec!["app".into()], ..MatchCriteria::default() },
            MatchCriteria {
                identities: vec!["app".into()],
                networks: networks(&["10.1.0.0/16"]),
                ..MatchCriteria::default()
            },
            MatchCriteria {
                certificates: vec![CertificateMatch::Name("billing.internal".into())],
                ..MatchCriteria::default()
            },
            MatchCriteria {
                networks: networks(&["10.1.0.0/16"]),
                listeners: vec!["main".into()],
                ..MatchCriteria::default()
            },
        ];
        let matcher = AppMatcher::new(apps);
        for (name, client, want) in [
            ("listener only", client("192.0.2.1:1", "main", None, None), Some(0)),
            ("nothing", client("192.0.2.1:1", "other", None, None), None),
            ("unix, listener", client("unix", "main", None, None), Some(0)),
            ("short network", client("10.9.0.1:1", "main", None, None), Some(1)),
            ("long network", client("10.1.0.1:1", "other", None, None), Some(2)),
            ("long network and listener", client("10.1.0.1:1", "main", None, None), Some(6)),
            ("ipv6", client("[2001:db8::1]:1", "main", None, None), Some(2)),
            ("auth", client("192.0.2.1:1", "main", Some("app"), None), Some(3)),
            ("auth and network", client("10.1.0.1:1", "main", Some("app"), None), Some(4)),
            ("unknown auth", client("10.1.0.1:1", "other", Some("nobody"), None), Some(2)),
            ("certificate", client("10.1.0.1:1", "main", Some("app"), Some("billing.internal")), Some(5)),
            ("unknown certificate", client("10.9.0.1:1", "main", None, Some("x.internal")), Some(1)),
        ] {
            assert_eq!(matcher.recognise(&client), want, "{name}");
        }
        assert!(matcher.overlaps().is_empty(), "{:?}", matcher.overlaps());
    }

    #[test]
    fn equal_claims_are_told() {
        let network = |text| MatchCriteria { networks: networks(&[text]), ..MatchCriteria::default() };
        let name = |text: &str| MatchCriteria { identities: vec![text.to_owned()], ..MatchCriteria::default() };
        let matcher = AppMatcher::new(vec![
            network("10.0.0.0/8"),
            network("10.0.0.0/8"),
            network("10.1.0.0/16"),
            name("app"),
            name("app"),
        ]);
        assert_eq!(matcher.overlaps(), BTreeSet::from([(0, 1), (3, 4)]));
        assert_eq!(matcher.recognise(&client("10.0.0.1:1", "x", None, None)), Some(0), "the first of equals");
    }

    #[test]
    fn the_pairs_of_equal_claims_grow_with_the_applications_and_not_with_their_square() {
        // Comparing every pair took 62 s for 50,000 applications.
        let main = MatchCriteria { listeners: vec!["main".into()], ..MatchCriteria::default() };
        let pairs = AppMatcher::new(vec![main; 20_000]).overlaps();
        assert_eq!((pairs.len(), pairs.first(), pairs.last()), (19_999, Some(&(0, 1)), Some(&(0, 19_999))));
        // The same certificate, and a name for each: no client matches two.
        let named = |place: usize| MatchCriteria {
            certificates: vec![CertificateMatch::Name("gateway.internal".into())],
            identities: vec![format!("app{place}")],
            ..MatchCriteria::default()
        };
        assert!(AppMatcher::new((0..20_000).map(named).collect()).overlaps().is_empty());
    }

    #[test]
    fn the_claims_of_one_application_are_bounded() {
        let many = MatchCriteria {
            identities: (0..1_000).map(|number| format!("user{number}")).collect(),
            networks: (0..25).map(|number| IpNet::new([10, 0, 0, 0].into(), 8 + number).unwrap()).collect(),
            listeners: (0..1_000).map(|number| format!("listener{number}")).collect(),
            ..MatchCriteria::default()
        };
        assert_eq!(AppMatcher::new(vec![many.clone(), many]).overlaps(), BTreeSet::from([(0, 1)]));
    }
}
