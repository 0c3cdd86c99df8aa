//! A client by which an application is really recognised: a listener that it can come to, an address, an AUTH name and a
//! certificate that meet every demand at once, and that policy takes for this application and for no other.
//!
//! Candidates are made from the configuration, in its order, and policy is asked about each. Facts that the command line
//! gives are kept. The search is bounded: an application with many alternatives is not tried with all of them.

use crate::config::values::Listen;
use crate::config::{App, Auth, Certificates, Config, Listener, Plan, Tls};
use crate::mail::{Client, ClientAddress, ClientCertificate, Identity, SessionId, TlsInfo};
use crate::policy::CertificateMatch;
use ipnet::IpNet;
use serde::Serialize;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What the command line says about the client.
#[derive(Default)]
pub(super) struct Given<'a> {
    pub(super) listener: Option<&'a str>,
    pub(super) address: Option<ClientAddress>,
    pub(super) auth: Option<&'a str>,
    pub(super) certificate: Option<ClientCertificate>,
}

/// A client that could connect.
#[derive(Clone, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) listener: &'a Listener,
    pub(super) address: ClientAddress,
    pub(super) auth: Option<String>,
    pub(super) certificate: Option<ClientCertificate>,
    /// What of the certificate is compared.
    shown: Option<&'a CertificateMatch>,
}

/// The client that was taken for an application.
#[derive(Debug, Serialize)]
pub(super) struct Chosen<'a> {
    #[serde(skip)]
    pub(super) candidate: Option<Candidate<'a>>,
    app: &'a str,
    /// What was taken, in words.
    taken: String,
    /// Further ways in which it is recognised: other listeners, AUTH names and certificates.
    others: Vec<String>,
    /// Whom policy takes this client for, where that is not the application.
    #[serde(skip_serializing_if = "Option::is_none")]
    recognised_as: Option<String>,
    /// What the reader should know: another application is recognised first, for example.
    #[serde(skip_serializing_if = "Option::is_none")]
    remark: Option<String>,
}

/// Candidates that are tried, and further ways that are listed.
const CANDIDATES_MAX: usize = 20_000;
const OTHERS_SHOWN_MAX: usize = 8;

/// A client of that application. `candidate` is `None` where no client could meet its demands.
pub(super) fn choose<'a>(config: &'a Config, plan: &Plan, app: &'a App, given: &Given<'a>) -> Chosen<'a> {
    let name = app.name.as_ref().map(|name| name.0.as_str()).unwrap_or_default();
    let search = Search { config, plan, app, given };
    let mut candidates: Vec<Candidate<'a>> = search.candidates().take(CANDIDATES_MAX).collect();
    // Stable: clients that can reach the listener come first, and else the order of the file counts.
    candidates.sort_by_key(|candidate| !candidate.can_reach());
    let is_it = |candidate: &&Candidate<'a>| recognised(plan, candidate) == Some(name);
    let mut found = candidates.iter().filter(is_it);
    let first = found.next().cloned();
    let mut others: Vec<String> = Vec::new();
    if let Some(first) = &first {
        for other in found.filter(|other| other.way() != first.way()) {
            let way = other.way();
            if !others.contains(&way) && others.len() < OTHERS_SHOWN_MAX {
                others.push(way);
            }
        }
    }
    let candidate = first.clone().or_else(|| candidates.first().cloned());
    let taken = candidate.as_ref().map(Candidate::words).unwrap_or_default();
    let recognised_as = match (&first, &candidate) {
        (None, Some(candidate)) => {
            Some(recognised(plan, candidate).map_or_else(|| "no application".to_owned(), str::to_owned))
        }
        _ => None,
    };
    let remark = match (&first, &recognised_as) {
        (Some(first), _) if !first.can_reach() => Some(format!(
            "no client of {name} can reach a listener that it may use: {} listens on this machine only, without a proxy",
            first.listener.called()
        )),
        (Some(_), _) => None,
        (None, None) => {
            Some(format!("no client can match all of certificates, auth, networks and listeners of {name}"))
        }
        (None, Some(other)) if other == "no application" => Some(format!(
            "this client is not recognised as {name}: it does not match all of certificates, auth, networks and listeners"
        )),
        (None, Some(other)) => Some(format!(
            "this client is not recognised as {name}: {other} is recognised first, because it matches more specifically or, \
             where both match equally, comes before {name} in the file"
        )),
    };
    Chosen { candidate, app: name, taken, others, recognised_as, remark }
}

impl Chosen<'_> {
    /// Rows of the text output: topic and text.
    pub(super) fn rows(&self) -> Vec<(&'static str, String)> {
        let is_it = if self.recognised_as.is_none() { format!(", recognised as {}", self.app) } else { String::new() };
        let mut rows = vec![("client", format!("{}{is_it}", self.taken))];
        rows.extend(self.others.iter().map(|way| ("or", way.clone())));
        rows.extend(self.remark.iter().map(|remark| ("note", remark.clone())));
        rows
    }

    pub(super) fn remark(&self) -> Option<&str> {
        self.remark.as_deref()
    }
}

/// Whom policy takes a candidate for.
fn recognised<'p>(plan: &'p Plan, candidate: &Candidate<'_>) -> Option<&'p str> {
    plan.policy().recognise(&candidate.client()).map(|app| app.name.as_str())
}

impl Candidate<'_> {
    fn client(&self) -> Client {
        let mut client = Client::new(SessionId::fresh(), self.address, self.listener.called().into());
        client.identity = self.auth.as_deref().map(Identity::new);
        client.tls = (self.listener.tls != Tls::None).then(|| TlsInfo {
            version: String::new(),
            cipher: String::new(),
            client_certificate: self.certificate.clone().map(Arc::new),
        });
        client
    }

    /// Whether a packet from there arrives at the listener: loopback is for this machine, and a proxy speaks for others.
    fn can_reach(&self) -> bool {
        let proxied = !self.listener.proxy_protocol_from.is_empty();
        match (self.listener.address.as_ref().map(|address| &address.0), self.address) {
            (Some(Listen::Unix(_)), address) => address == ClientAddress::Unix,
            (Some(Listen::Tcp(listen)), ClientAddress::Ip(client)) => {
                let (listen, client) = (listen.ip(), client.ip());
                let any_family = listen.is_ipv6() && listen.is_unspecified();
                let family = any_family || listen.to_canonical().is_ipv4() == client.is_ipv4();
                proxied || family && (!listen.to_canonical().is_loopback() || client.is_loopback())
            }
            (Some(Listen::Systemd(_)), _) => true,
            _ => false,
        }
    }

    /// Listener, AUTH name and certificate.
    fn way(&self) -> String {
        let mut way = format!("listener {}", self.listener.called());
        if let Some(name) = &self.auth {
            way.push_str(&format!(", AUTH name {name}"));
        }
        if let Some(certificate) = self.shown {
            way.push_str(&format!(", certificate {certificate}"));
        }
        way
    }

    fn words(&self) -> String {
        let address = match self.address {
            ClientAddress::Ip(address) => address.ip().to_string(),
            other => other.to_string(),
        };
        format!("{address} at {}", self.way())
    }
}

struct Search<'a, 's> {
    config: &'a Config,
    plan: &'s Plan,
    app: &'a App,
    given: &'s Given<'a>,
}

impl<'a> Search<'a, '_> {
    fn candidates(&self) -> impl Iterator<Item = Candidate<'a>> + '_ {
        let comes_to = |listener: &&'a Listener| match self.given.listener {
            Some(name) => listener.called() == name,
            None => self.app.listeners.is_empty() || self.app.listeners.contains(&listener.called()),
        };
        self.config.listener.iter().filter(comes_to).flat_map(move |listener| {
            let addresses = self.addresses(listener);
            let certificates = self.certificates(listener);
            let names = self.names(listener);
            certificates.into_iter().flat_map(move |(certificate, shown)| {
                let (addresses, names) = (addresses.clone(), names.clone());
                names.into_iter().flat_map(move |auth| {
                    let certificate = certificate.clone();
                    let auth = auth.clone();
                    addresses.clone().into_iter().map(move |address| Candidate {
                        listener,
                        address,
                        auth: auth.clone(),
                        certificate: certificate.clone(),
                        shown,
                    })
                })
            })
        })
    }

    /// Certificates that the application may show there; none where it has some and the listener asks for none.
    fn certificates(&self, listener: &Listener) -> Vec<(Option<ClientCertificate>, Option<&'a CertificateMatch>)> {
        let asked = listener.client_certificates != Certificates::Off && listener.tls != Tls::None;
        if let Some(certificate) = &self.given.certificate {
            return vec![(Some(certificate.clone()), None)];
        }
        match (self.app.certificates.is_empty(), asked) {
            (false, true) => {
                let known = self.app.certificates.iter().map(|text| &text.0);
                known.map(|wanted| (Some(of_fact(wanted)), Some(wanted))).collect()
            }
            (false, false) => Vec::new(),
            // Any that is verified.
            (true, _) if asked && listener.client_certificates == Certificates::Required => {
                vec![(Some(ClientCertificate::default()), None)]
            }
            (true, _) => vec![(None, None)],
        }
    }

    /// AUTH names that the application may use there; where the listener requires one and it has none, every user's.
    fn names(&self, listener: &Listener) -> Vec<Option<String>> {
        if let Some(name) = self.given.auth {
            return vec![Some(name.to_owned())];
        }
        match (self.app.auth.is_empty(), listener.auth) {
            (false, Auth::Optional | Auth::Required) => self.app.auth.iter().cloned().map(Some).collect(),
            (false, Auth::Off | Auth::Any) => Vec::new(),
            (true, Auth::Required) => {
                let of_apps: HashSet<&String> = self.config.app.iter().flat_map(|app| &app.auth).collect();
                // A name of another application would be taken for that one.
                let (theirs, free): (Vec<_>, Vec<_>) =
                    self.plan.user_names.iter().partition(|name| of_apps.contains(name));
                free.into_iter().chain(theirs).take(USERS_TRIED_MAX).cloned().map(Some).collect()
            }
            (true, _) => vec![None],
        }
    }

    /// Addresses that a client of the application may have there.
    fn addresses(&self, listener: &Listener) -> Vec<ClientAddress> {
        if let Some(address) = self.given.address {
            return vec![address];
        }
        let ip = |ip: IpAddr| ClientAddress::Ip(SocketAddr::new(ip, 0));
        let listen = listener.address.as_ref().map(|address| &address.0);
        match (listen, self.app.networks.is_empty()) {
            (Some(Listen::Unix(_)), true) => vec![ClientAddress::Unix],
            // A client there has no address.
            (Some(Listen::Unix(_)), false) => Vec::new(),
            (_, false) => {
                let networks = self.app.networks.iter().map(|network| network.0);
                networks.flat_map(|network| self.inside(network)).map(ip).collect()
            }
            (listen, true) => {
                let own = match listen {
                    Some(Listen::Tcp(address)) if !address.ip().is_unspecified() => Some(address.ip().to_canonical()),
                    _ => None,
                };
                let more = ["127.0.0.1", "::1", "192.0.2.1", "2001:db8::1"].iter().filter_map(|text| text.parse().ok());
                own.into_iter().chain(more).map(ip).collect()
            }
        }
    }

    /// Addresses of a network: its first, its last, and those beside networks of other applications inside it, which would
    /// be recognised first.
    fn inside(&self, network: IpNet) -> Vec<IpAddr> {
        let nested = self.config.app.iter().flat_map(|app| &app.networks).map(|network| network.0);
        let nested = nested.filter(|other| network.contains(other) && *other != network).take(NETWORKS_TRIED_MAX);
        let mut found: Vec<IpAddr> = network.hosts().take(1).collect();
        found.push(network.broadcast());
        for other in nested {
            found.extend(next(other.broadcast(), true).into_iter().chain(next(other.network(), false)));
        }
        found.retain(|address| network.contains(address));
        found
    }
}

const USERS_TRIED_MAX: usize = 64;
const NETWORKS_TRIED_MAX: usize = 64;

/// The address after that one, or before it.
fn next(address: IpAddr, up: bool) -> Option<IpAddr> {
    let step = |number: u128| if up { number.checked_add(1) } else { number.checked_sub(1) };
    match address {
        IpAddr::V4(address) => {
            let number = step(u32::from(address).into())?;
            Some(IpAddr::V4(u32::try_from(number).ok()?.into()))
        }
        IpAddr::V6(address) => Some(IpAddr::V6(step(address.into())?.into())),
    }
}

/// A certificate with that fact.
fn of_fact(fact: &CertificateMatch) -> ClientCertificate {
    of_facts(std::iter::once(fact)).unwrap_or_default()
}

/// A certificate with those facts; `None` without any.
pub(super) fn of_facts<'a>(facts: impl Iterator<Item = &'a CertificateMatch>) -> Option<ClientCertificate> {
    facts.fold(None, |known, fact| {
        let mut certificate = known.unwrap_or_default();
        match fact {
            CertificateMatch::Fingerprint(text) => certificate.fingerprint.clone_from(text),
            CertificateMatch::Subject(text) => certificate.subject.clone_from(text),
            CertificateMatch::Name(text) => certificate.names.push(text.clone()),
        }
        Some(certificate)
    })
}
