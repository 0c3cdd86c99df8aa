//! Which identity of the account covers an address.
//!
//! An address identity covers exactly that address; a domain identity covers the domain and every subdomain. Where
//! several cover it, the most precise one is named first: the address, then the longest domain. The local part is
//! compared as it is, the domain without regard to case. SES Developer Guide, "Verified identities".

use super::address::Mailbox;
use super::settings::Identity;

/// Every identity that covers the address, the most precise one first, verified or not.
pub(super) fn covering<'a>(identities: &'a [Identity], mailbox: &Mailbox) -> Vec<&'a Identity> {
    let mut found: Vec<_> = identities.iter().filter(|identity| covers(&identity.name, mailbox)).collect();
    found.sort_by_key(|identity| (!identity.name.contains('@'), std::cmp::Reverse(identity.name.len())));
    found
}

/// The identity that permits the account to use the address.
pub(super) fn verified_for<'a>(identities: &'a [Identity], mailbox: &Mailbox) -> Option<&'a Identity> {
    covering(identities, mailbox).into_iter().find(|identity| identity.verified)
}

pub(super) fn covers(identity: &str, mailbox: &Mailbox) -> bool {
    match identity.rsplit_once('@') {
        Some((local, domain)) => local == mailbox.local && domain.eq_ignore_ascii_case(&mailbox.domain),
        None => {
            let identity = identity.to_ascii_lowercase();
            mailbox.domain == identity
                || mailbox.domain.strip_suffix(&identity).is_some_and(|subdomain| subdomain.ends_with('.'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_covers_its_subdomains_and_an_address_only_itself() {
        for (identity, address, want) in [
            ("example.com", "ann@example.com", true),
            ("Example.COM", "ann@a.b.example.com", true),
            ("example.com", "ann@badexample.com", false),
            ("a.example.com", "ann@example.com", false),
            ("ann@example.com", "ann@EXAMPLE.com", true),
            ("ann@example.com", "Ann@example.com", false),
            ("ann@example.com", "ann@a.example.com", false),
        ] {
            let mailbox = Mailbox::parse(address).expect("an address");
            assert_eq!(covers(identity, &mailbox), want, "{identity} over {address}");
        }
    }

    #[test]
    fn the_most_precise_identity_comes_first() {
        let identities = ["example.com", "a.example.com", "ann@a.example.com"].map(Identity::verified);
        let mailbox = Mailbox::parse("ann@a.example.com").expect("an address");
        let names: Vec<_> =
            covering(&identities, &mailbox).into_iter().map(|identity| identity.name.as_str()).collect();
        assert_eq!(names, ["ann@a.example.com", "a.example.com", "example.com"]);
    }
}
