//! Region, endpoint and identity ARNs: whether there is such a region, and whether all of them name the same one.
//!
//! A wrong one is a name that does not resolve, or a signature that SES refuses: every message would be deferred.

use super::Config;
use super::place::{Place, Problem};
use super::plan::{Findings, Found};
use super::source::Surroundings;
use super::values::Role;
use crate::iam::Arn;
use crate::iam::region::{EndpointName, Region};
use std::collections::BTreeMap;

/// Of a plan that sends to Amazon. A region that only the profile or the instance names is looked at by
/// [`Config::look_at_region`], once the SDK has found it.
pub(super) fn plan(findings: &mut Findings<'_>) {
    let known = named(findings.config, findings.surroundings);
    agree(findings, known.as_ref().map(|(region, place)| (region.as_str(), place)));
}

impl Config {
    /// What is wrong with a region that neither file nor environment names. `None`: they name one, which the plan has looked
    /// at.
    pub fn look_at_region(&self, surroundings: &Surroundings, region: &str) -> Option<Found> {
        if self.ses.emulator || named(self, surroundings).is_some() {
            return None;
        }
        let mut findings = Findings::new(self, surroundings);
        let place = Place::File(self.places.file().to_owned());
        agree(&mut findings, Some((region, &place)));
        Some(findings.into_found())
    }
}

/// The region that file or environment name, and where. The profile and the instance are asked at a start only.
fn named(config: &Config, surroundings: &Surroundings) -> Option<(String, Place)> {
    if let Some(region) = &config.ses.region {
        return Some((region.clone(), config.places.of("ses.region")));
    }
    ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| {
        let region = surroundings.variable(name).filter(|text| !text.is_empty())?;
        Some((region.to_owned(), Place::Variable((*name).to_owned())))
    })
}

fn agree(findings: &mut Findings<'_>, region: Option<(&str, &Place)>) {
    let looked = region.map(|(text, place)| (text, place, Region::of(text)));
    if let Some((text, place, Region::Impossible { why, meant })) = &looked {
        let hint = meant.as_ref().map_or_else(
            || "write the name that AWS has for it, such as eu-central-1".to_owned(),
            |meant| format!("write {meant}"),
        );
        findings.error_at((*place).clone(), format!("region {text:?} {why}"), hint);
        return;
    }
    let before = findings.errors.len();
    endpoint(findings, region.map(|(text, _)| text));
    if let Some((text, _)) = region {
        identities(findings, text);
        roles(findings, text);
    }
    // A slip of the keyboard is named by what it contradicts, if anything.
    if let (Some((text, place, Region::Unknown(near))), true) = (&looked, findings.errors.len() == before) {
        let hint = match near {
            Some(near) => format!("did you mean {near}? If AWS opened the region lately, it is right as it is"),
            None => "compare it with the list of AWS; if AWS opened the region lately, it is right as it is".to_owned(),
        };
        findings.warnings.push(Problem {
            place: (*place).clone(),
            message: format!("region {text:?} is not one that this version of gatepost knows"),
            hint: Some(hint),
        });
    }
}

/// Services whose host names SES's API has.
const API: [&str; 2] = ["email", "email-fips"];

fn endpoint(findings: &mut Findings<'_>, region: Option<&str>) {
    let Some(url) = &findings.config.ses.endpoint_url else { return };
    let path =
        url.0.split_once("://").and_then(|(_, rest)| rest.find('/').map(|start| &rest[start..])).unwrap_or_default();
    if path.starts_with("/v2") {
        let message = format!("{} has the path of the API in it, which each call appends itself", url.0);
        findings.error("ses.endpoint_url", message, format!("write {}", url.0.trim_end_matches(path)));
        return;
    }
    let Some(EndpointName { service, region: own }) = EndpointName::of_url(&url.0) else { return };
    if !API.contains(&service.as_str()) {
        let what = match service.as_str() {
            "email-smtp" => "the SMTP endpoint of SES, and gatepost calls the API".to_owned(),
            "mail-manager-smtp" => "an SMTP endpoint of SES Mail Manager, and gatepost calls the API".to_owned(),
            other => format!("an endpoint of the service {other}, and gatepost calls the API of SES"),
        };
        let hint = format!(
            "write https://email.{own}.amazonaws.com, or the name of a VPC endpoint of the service com.amazonaws.{own}.email; \
             or leave endpoint_url out"
        );
        findings.error("ses.endpoint_url", format!("{} is {what}", url.0), hint);
        return;
    }
    if let Some(region) = region.filter(|region| *region != own) {
        let message = format!("this endpoint is in region {own}, and calls are signed for region {region}");
        let hint = format!("set ses.region = \"{own}\", or write the endpoint of {region}; without endpoint_url it is");
        findings.error("ses.endpoint_url", message, format!("{hint} that of the region"));
    }
}

/// A role of one partition cannot be assumed with credentials of another, and no ARN of a role has a wildcard.
fn roles(findings: &mut Findings<'_>, region: &str) {
    let config = findings.config;
    let mut said: BTreeMap<String, &Role> = BTreeMap::new();
    said.extend(config.ses.assume_role.iter().map(|role| ("ses".to_owned(), role)));
    let apps = config.app.iter().enumerate();
    said.extend(apps.filter_map(|(place, app)| Some((format!("app.{place}"), app.assume_role.as_ref()?))));
    for (path, role) in said {
        let own = role.0.as_str().split(':').nth(1).unwrap_or_default();
        let Some(wanted) = crate::iam::region::partition_of(region).filter(|wanted| *wanted != own) else { continue };
        let message = format!("{role} is in partition {own}, and region {region} is in {wanted}");
        let hint = format!("the ARN of a role there begins with arn:{wanted}:; AWS keeps partitions apart");
        findings.error(&format!("{path}.assume_role"), message, hint);
    }
}

/// An identity is used in its own region only.
fn identities(findings: &mut Findings<'_>, region: &str) {
    let config = findings.config;
    let mut said = BTreeMap::new();
    if let (Some(arn), None) = (&config.ses.identity_arn, &config.ses.endpoint_id) {
        said.insert("ses".to_owned(), arn);
    }
    for (place, app) in config.app.iter().enumerate() {
        let endpoint_id = app.endpoint_id.as_ref().or(config.ses.endpoint_id.as_ref());
        if let (Some(arn), None) = (&app.identity_arn, endpoint_id) {
            said.insert(format!("app.{place}"), arn);
        }
    }
    for (path, arn) in said {
        let own = Arn::parse(arn.0.as_str()).map(|arn| arn.parts()[3].to_owned()).unwrap_or_default();
        if own != region {
            let message = format!("the identity {arn} is in region {own}, and messages go to region {region}");
            let hint = format!("name the identity that was verified in {region}, or set ses.region = \"{own}\"");
            findings.error(&format!("{path}.identity_arn"), message, hint);
            continue;
        }
        let partition = arn.0.as_str().split(':').nth(1).unwrap_or_default();
        if let Some(wanted) = crate::iam::region::partition_of(region).filter(|wanted| *wanted != partition) {
            let message = format!("{arn} is in partition {partition}, and region {region} is in {wanted}");
            findings.error(&format!("{path}.identity_arn"), message, format!("it begins with arn:{wanted}: there"));
        }
    }
}
