//! Checks that the region exists, and that region, endpoint and identity ARNs agree.
//!
//! A wrong region is a name that does not resolve, or a signature that SES rejects: every message would be deferred.

use super::Config;
use super::diagnostics::{Diagnostics, Found, Item};
use super::process_environment::ProcessEnvironment;
use super::source_map::Location;
use super::values::Role;
use crate::iam::Arn;
use crate::iam::region::{EndpointName, Region, partition_of};
use std::collections::BTreeMap;

/// Checks the region of file or environment. A region that only the profile or the instance names is checked by
/// [`Config::check_region`], once the SDK has found it.
pub(super) fn check(config: &Config, diagnostics: &mut Diagnostics<'_>) {
    let known = named(config, diagnostics.environment());
    agree(config, known.as_ref().map(|(region, location)| (region.as_str(), location)), diagnostics);
}

impl Config {
    /// Errors of a region that neither file nor environment names. `None`: they name one, which the plan has checked.
    pub(crate) fn check_region(&self, process_environment: &ProcessEnvironment, region: &str) -> Option<Found> {
        if self.ses.emulator || named(self, process_environment).is_some() {
            return None;
        }
        let mut diagnostics = Diagnostics::new(&self.source_map, process_environment);
        let location = Location::File(self.source_map.file().to_owned());
        agree(self, Some((region, &location)), &mut diagnostics);
        Some(diagnostics.take())
    }
}

/// The region that file or environment name, and where. Profile and instance are read at a start only.
fn named(config: &Config, process_environment: &ProcessEnvironment) -> Option<(String, Location)> {
    if let Some(region) = &config.ses.region {
        return Some((region.clone(), config.source_map.of("ses.region")));
    }
    ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| {
        let region = process_environment.variable(name).filter(|text| !text.is_empty())?;
        Some((region.to_owned(), Location::Variable((*name).to_owned())))
    })
}

fn agree(config: &Config, region: Option<(&str, &Location)>, diagnostics: &mut Diagnostics<'_>) {
    let looked = region.map(|(text, location)| (text, location, Region::of(text)));
    if let Some((text, location, Region::Impossible { why, meant })) = &looked {
        let hint = meant.as_ref().map_or_else(
            || "write the name that AWS has for it, such as eu-central-1".to_owned(),
            |meant| format!("write {meant}"),
        );
        diagnostics.error_at((*location).clone(), format!("region {text:?} {why}"), hint);
        return;
    }
    let before = diagnostics.error_count();
    check_endpoint(config, region.map(|(text, _)| text), diagnostics);
    if let Some((text, _)) = region {
        check_identities(config, text, diagnostics);
        check_roles(config, text, diagnostics);
    }
    // A misspelt region is reported by what it contradicts, if anything.
    if let (Some((text, location, Region::Unknown(near))), true) = (&looked, diagnostics.error_count() == before) {
        let hint = match near {
            Some(near) => format!("did you mean {near}? If it is a new region, ignore this"),
            None => "compare it with the list of AWS; if it is a new region, ignore this".to_owned(),
        };
        let message = format!("region {text:?} is not known to this version of gatepost");
        diagnostics.warn_at((*location).clone(), message, hint);
    }
}

/// Services in the host names of SES's API.
const API: [&str; 2] = ["email", "email-fips"];

fn check_endpoint(config: &Config, region: Option<&str>, diagnostics: &mut Diagnostics<'_>) {
    let Some(url) = &config.ses.endpoint_url else { return };
    let path =
        url.0.split_once("://").and_then(|(_, rest)| rest.find('/').map(|start| &rest[start..])).unwrap_or_default();
    if path.starts_with("/v2") {
        let message = format!("{} contains the path of the API, which gatepost appends", url.0);
        diagnostics.error("ses.endpoint_url", message, format!("write {}", url.0.trim_end_matches(path)));
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
        diagnostics.error("ses.endpoint_url", format!("{} is {what}", url.0), hint);
        return;
    }
    if let Some(region) = region.filter(|region| *region != own) {
        let message = format!("this endpoint is in region {own}, and calls are signed for region {region}");
        let hint = format!("set ses.region = \"{own}\", or write the endpoint of {region}; without endpoint_url it is");
        diagnostics.error("ses.endpoint_url", message, format!("{hint} that of the region"));
    }
}

/// A role of one partition cannot be assumed with credentials of another.
fn check_roles(config: &Config, region: &str, diagnostics: &mut Diagnostics<'_>) {
    let of_apps = Item::all("app", &config.app).map(|item| (item.path, item.value.assume_role.as_ref()));
    let roles = std::iter::once(("ses".to_owned(), config.ses.assume_role.as_ref())).chain(of_apps);
    for (path, role) in roles {
        let Some(role @ Role(arn)) = role else { continue };
        let own = arn.as_str().split(':').nth(1).unwrap_or_default();
        let Some(wanted) = partition_of(region).filter(|wanted| *wanted != own) else { continue };
        let message = format!("{role} is in partition {own}, and region {region} is in {wanted}");
        let hint = format!("the ARN of a role there begins with arn:{wanted}:; AWS keeps partitions apart");
        diagnostics.error(&format!("{path}.assume_role"), message, hint);
    }
}

/// An identity is used in its own region only.
fn check_identities(config: &Config, region: &str, diagnostics: &mut Diagnostics<'_>) {
    let mut said = BTreeMap::new();
    if let (Some(arn), None) = (&config.ses.identity_arn, &config.ses.endpoint_id) {
        said.insert("ses".to_owned(), arn);
    }
    for Item { path, value: app } in Item::all("app", &config.app) {
        let endpoint_id = app.endpoint_id.as_ref().or(config.ses.endpoint_id.as_ref());
        if let (Some(arn), None) = (&app.identity_arn, endpoint_id) {
            said.insert(path, arn);
        }
    }
    for (path, arn) in said {
        let own = Arn::parse(arn.0.as_str()).map(|arn| arn.parts()[3].to_owned()).unwrap_or_default();
        if own != region {
            let message = format!("the identity {arn} is in region {own}, and messages go to region {region}");
            let hint = format!("name the identity that was verified in {region}, or set ses.region = \"{own}\"");
            diagnostics.error(&format!("{path}.identity_arn"), message, hint);
            continue;
        }
        let partition = arn.0.as_str().split(':').nth(1).unwrap_or_default();
        if let Some(wanted) = partition_of(region).filter(|wanted| *wanted != partition) {
            let message = format!("{arn} is in partition {partition}, and region {region} is in {wanted}");
            diagnostics.error(&format!("{path}.identity_arn"), message, format!("it begins with arn:{wanted}: there"));
        }
    }
}
