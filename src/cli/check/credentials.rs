//! Which source of AWS credentials would be asked, as far as environment and files say: no network is asked, and nothing
//! that is read here is shown but names.
//!
//! The order is the SDK's: environment, profile, web identity, container, instance (`aws-config`, default provider chain).

use crate::config::{Config, ProcessEnvironment};
use std::path::{Path, PathBuf};

/// The source, in words.
pub(super) fn source(config: &Config, process_environment: &ProcessEnvironment) -> String {
    if config.ses.emulator {
        return "of the emulator; none of AWS is used".to_owned();
    }
    let first = first(config, process_environment);
    match &config.ses.assume_role {
        Some(role) => format!("{first}; with them the role {role} is assumed"),
        None => first,
    }
}

fn first(config: &Config, process_environment: &ProcessEnvironment) -> String {
    let set = |name: &str| process_environment.variable(name).filter(|value| !value.is_empty());
    if set("AWS_ACCESS_KEY_ID").is_some() && (set("AWS_SECRET_ACCESS_KEY").or(set("SECRET_ACCESS_KEY"))).is_some() {
        let unused = match &config.ses.profile {
            Some(profile) => format!(" (they come before the profile {profile})"),
            None => String::new(),
        };
        return format!("environment variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY{unused}");
    }
    let profile = config.ses.profile.as_deref().or(set("AWS_PROFILE")).unwrap_or("default");
    if let Some((file, key)) =
        files(process_environment).iter().find_map(|file| Some((file, key_of_profile(file, profile)?)))
    {
        return format!("profile {profile} in {} ({key})", file.display());
    }
    if let (Some(file), Some(role)) = (set("AWS_WEB_IDENTITY_TOKEN_FILE"), set("AWS_ROLE_ARN")) {
        return format!("web identity: role {role} with the token in {file}");
    }
    for name in ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"] {
        if set(name).is_some() {
            return format!("container: the endpoint that {name} names");
        }
    }
    if set("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return "none in this environment: no variables, no profile, no container, and AWS_EC2_METADATA_DISABLED is set"
            .to_owned();
    }
    "instance metadata, if this machine has it: environment and profiles have none".to_owned()
}

/// The files of profiles, credentials first.
fn files(process_environment: &ProcessEnvironment) -> Vec<PathBuf> {
    let home = process_environment.variable("HOME").map(PathBuf::from);
    let named = |variable: &str, name: &str| {
        let of_environment =
            process_environment.variable(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
        of_environment.or_else(|| Some(home.as_ref()?.join(".aws").join(name)))
    };
    [named("AWS_SHARED_CREDENTIALS_FILE", "credentials"), named("AWS_CONFIG_FILE", "config")]
        .into_iter()
        .flatten()
        .collect()
}

/// The keys by which a profile says where its credentials come from.
const KEYS: [&str; 7] = [
    "aws_access_key_id",
    "credential_process",
    "role_arn",
    "sso_session",
    "sso_start_url",
    "web_identity_token_file",
    "credential_source",
];

/// The first such key in the section of that profile.
fn key_of_profile(file: &Path, profile: &str) -> Option<&'static str> {
    let text = std::fs::read_to_string(file).ok()?;
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            let name = name.trim();
            inside = name == profile || name.strip_prefix("profile ").is_some_and(|name| name.trim() == profile);
        } else if inside {
            let key = line.split('=').next().unwrap_or_default().trim().to_ascii_lowercase();
            if let Some(known) = KEYS.iter().find(|known| **known == key) {
                return Some(known);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_the_first_of_the_chain_that_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            std::fs::write(directory.path().join(name), text).unwrap();
            directory.path().join(name).display().to_string()
        };
        let config =
            file("config", "[profile mail]\nregion = eu-west-1\n role_arn = arn:aws:iam::111122223333:role/x\n");
        let keys = file("credentials", "[default]\nregion = x\n[other]\naws_access_key_id = AKIASECRET\n");
        let environment = ("AWS_ACCESS_KEY_ID=AKIASECRET", "AWS_SECRET_ACCESS_KEY=secret");
        let (config, keys) = (format!("AWS_CONFIG_FILE={config}"), format!("AWS_SHARED_CREDENTIALS_FILE={keys}"));
        for (ses, variables, want) in [
            ("", vec![environment.0, environment.1, &keys], "environment variables AWS_ACCESS_KEY_ID"),
            ("profile = 'mail'", vec![environment.0, environment.1], "(they come before the profile mail)"),
            ("profile = 'mail'", vec![&config, &keys], "/config (role_arn)"),
            ("", vec![&config, &keys, "AWS_PROFILE=other"], "profile other in "),
            (
                "",
                vec!["AWS_WEB_IDENTITY_TOKEN_FILE=/t", "AWS_ROLE_ARN=arn:r", &keys],
                "role arn:r with the token in /t",
            ),
            ("", vec!["AWS_CONTAINER_CREDENTIALS_FULL_URI=http://x"], "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
            ("", vec!["AWS_EC2_METADATA_DISABLED=true"], "none in this environment"),
            ("", vec![], "instance metadata"),
            ("assume_role = 'arn:aws:iam::111122223333:role/x'", vec![], "role/x is assumed"),
            ("emulator = true", vec![environment.0, environment.1], "of the emulator"),
        ] {
            let pair =
                |text: &str| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap();
            let process_environment = ProcessEnvironment::new(variables.iter().map(|text| pair(text)).collect(), None);
            let config = Config::parse(Path::new("f"), &format!("[ses]\n{ses}\n"), std::iter::empty()).unwrap();
            let told = source(&config, &process_environment);
            assert!(told.contains(want) && !told.contains("SECRET,") && !told.contains("AKIASECRET"), "{ses}: {told}");
        }
    }
}
