//! Regions of AWS, and the region and service in the host name of an endpoint.
//!
//! The table is the SDK's (`aws-sdk-sesv2`, partitions 1.1), without pseudo-regions such as `aws-global`. AWS opens
//! regions faster than programs are updated, so a name with a valid form that is not in the table is
//! [`Region::Unknown`], not an error.

use super::lint::arn_syntax::is_region;
use super::lint::{did_you_mean, distance};

/// The result of checking the name of a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Region {
    /// In the table.
    Known,
    /// The name has the form of a region but is not in the table. With the nearest region of the table, if it is
    /// similar.
    Unknown(Option<&'static str>),
    /// The name cannot be a region: the reason, and the region that was probably intended.
    Impossible {
        /// The reason, worded to follow the name.
        why: &'static str,
        /// The region that was probably intended.
        meant: Option<String>,
    },
}

impl Region {
    /// Checks a name.
    pub(crate) fn of(text: &str) -> Self {
        let plain = text.trim().to_ascii_lowercase();
        let zone = plain.strip_suffix(|c: char| c.is_ascii_lowercase()).filter(|region| is_region(region));
        match (is_region(text), zone) {
            (true, _) if all().any(|known| known == text) => Self::Known,
            (true, _) => Self::Unknown(nearest(text)),
            (false, Some(region)) => {
                Self::Impossible { why: "is an availability zone, not a region", meant: Some(region.to_owned()) }
            }
            (false, None) if is_region(&plain) && plain != text.trim() => {
                Self::Impossible { why: "has capital letters, and names of regions have none", meant: Some(plain) }
            }
            (false, None) if is_region(&plain) => Self::Impossible { why: "has blanks around it", meant: Some(plain) },
            (false, None) => {
                Self::Impossible { why: "cannot be the name of a region", meant: nearest(&plain).map(str::to_owned) }
            }
        }
    }
}

/// Every region of the table.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    REGIONS.iter().flat_map(|names| names.split_ascii_whitespace())
}

/// The most similar region. `eu-centrall-1` is nearer to `eu-central-1` than to `eu-central-2`: of equally similar
/// ones, the one with the same number.
fn nearest(text: &str) -> Option<&'static str> {
    let near = did_you_mean(text, all())?;
    let number = |name: &str| name.chars().next_back();
    let alike = all().filter(|known| distance(known, text) == distance(near, text));
    alike.into_iter().find(|known| number(known) == number(text)).or(Some(near))
}

/// The partition of a region of the table.
pub(crate) fn partition_of(region: &str) -> Option<&'static str> {
    let index = REGIONS.iter().position(|names| names.split_ascii_whitespace().any(|name| name == region))?;
    PARTITIONS.get(index).copied()
}

/// The partitions of the lines of [`REGIONS`].
const PARTITIONS: &[&str] =
    &["aws", "aws-cn", "aws-eusc", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f", "aws-us-gov"];

/// One line a partition.
const REGIONS: &[&str] = &[
    "af-south-1 ap-east-1 ap-east-2 ap-northeast-1 ap-northeast-2 ap-northeast-3 ap-south-1 ap-south-2 ap-southeast-1 \
     ap-southeast-2 ap-southeast-3 ap-southeast-4 ap-southeast-5 ap-southeast-6 ap-southeast-7 ca-central-1 ca-west-1 \
     eu-central-1 eu-central-2 eu-north-1 eu-south-1 eu-south-2 eu-west-1 eu-west-2 eu-west-3 il-central-1 me-central-1 \
     me-south-1 mx-central-1 sa-east-1 us-east-1 us-east-2 us-west-1 us-west-2",
    "cn-north-1 cn-northwest-1",
    "eusc-de-east-1",
    "us-iso-east-1 us-iso-west-1",
    "us-isob-east-1 us-isob-west-1",
    "eu-isoe-west-1",
    "us-isof-east-1 us-isof-south-1",
    "us-gov-east-1 us-gov-west-1",
];

/// The service and the region in the host name of an AWS endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndpointName {
    /// `email`, `email-fips`, `email-smtp`, `mail-manager-smtp` or another.
    pub service: String,
    /// The region.
    pub region: String,
}

/// The suffixes of AWS endpoints: regional, dual stack, and both in other partitions.
const SUFFIXES: &[&str] = &[
    ".amazonaws.com",
    ".amazonaws.com.cn",
    ".amazonaws.eu",
    ".api.aws",
    ".api.amazonwebservices.com.cn",
    ".api.amazonwebservices.eu",
];

impl EndpointName {
    /// The region in a URL such as `https://email.eu-west-1.amazonaws.com` or
    /// `https://vpce-….email.eu-west-1.vpce.amazonaws.com`. `None`: the host is not an AWS endpoint with a region in
    /// its name.
    pub(crate) fn of_url(url: &str) -> Option<Self> {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let host = rest.split(['/', ':']).next().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
        let name = SUFFIXES.iter().find_map(|suffix| host.strip_suffix(suffix))?;
        let name = name.strip_suffix(".vpce").unwrap_or(name);
        let (before, region) = name.rsplit_once('.')?;
        let service = before.rsplit('.').next().unwrap_or_default();
        (is_region(region) && !service.is_empty())
            .then(|| Self { service: service.to_owned(), region: region.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_a_region_or_looks_like_one_or_cannot_be_one() {
        let impossible = |text: &str| match Region::of(text) {
            Region::Impossible { meant, .. } => meant,
            other => panic!("{text}: {other:?}"),
        };
        for text in all() {
            assert_eq!(Region::of(text), Region::Known, "{text}");
        }
        assert_eq!(all().count(), 46);
        for (text, near) in [
            ("eu-centrall-1", Some("eu-central-1")),
            ("eu-centrall-2", Some("eu-central-2")),
            ("us-esat-1", Some("us-east-1")),
            ("eu-west-9", Some("eu-west-1")),
            ("zz-nowhereatall-1", None),
        ] {
            assert_eq!(Region::of(text), Region::Unknown(near), "{text}");
        }
        for (text, meant) in [
            ("EU-CENTRAL-1", Some("eu-central-1")),
            ("Eu-West-1", Some("eu-west-1")),
            ("eu-central-1a", Some("eu-central-1")),
            ("us-gov-west-1b", Some("us-gov-west-1")),
            (" eu-west-1", Some("eu-west-1")),
            ("eu-west-1\n", Some("eu-west-1")),
            ("eu_west_1", Some("eu-west-1")),
            ("euwest1", Some("eu-west-1")),
            ("Frankfurt", None),
            ("", None),
        ] {
            assert_eq!(impossible(text).as_deref(), meant, "{text:?}");
        }
    }

    #[test]
    fn the_host_of_an_endpoint_names_service_and_region() {
        for (url, want) in [
            ("https://email.eu-west-1.amazonaws.com", Some(("email", "eu-west-1"))),
            ("https://email.eu-west-1.amazonaws.com:443/", Some(("email", "eu-west-1"))),
            ("https://email-fips.us-gov-west-1.amazonaws.com", Some(("email-fips", "us-gov-west-1"))),
            ("https://email.eu-west-1.api.aws", Some(("email", "eu-west-1"))),
            ("https://EMAIL.eu-west-1.amazonaws.com.", Some(("email", "eu-west-1"))),
            ("https://email.eusc-de-east-1.amazonaws.eu", Some(("email", "eusc-de-east-1"))),
            (
                "https://vpce-0123456789abcdef0-abcdefgh.email.eu-central-1.vpce.amazonaws.com",
                Some(("email", "eu-central-1")),
            ),
            (
                "https://vpce-0123456789abcdef0-abcdefgh-eu-central-1a.email.eu-central-1.vpce.amazonaws.com",
                Some(("email", "eu-central-1")),
            ),
            ("https://vpce-0-a.email-smtp.eu-west-1.vpce.amazonaws.com", Some(("email-smtp", "eu-west-1"))),
            ("https://email-smtp.eu-west-1.amazonaws.com", Some(("email-smtp", "eu-west-1"))),
            ("https://abc.wmjb.mail-manager-smtp.us-east-1.amazonaws.com", Some(("mail-manager-smtp", "us-east-1"))),
            ("https://ses.example", None),
            ("https://email.amazonaws.com", None),
            ("http://127.0.0.1:8005", None),
            ("https://email.eu-west-1.amazonaws.com.evil.example", None),
        ] {
            let read = EndpointName::of_url(url);
            let read = read.as_ref().map(|name| (name.service.as_str(), name.region.as_str()));
            assert_eq!(read, want, "{url}");
        }
    }
}
