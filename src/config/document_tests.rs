//! Every TOML sample of the manual is a configuration that starts, or would with the files it names.

use super::{Config, ConfigError, ProcessEnvironment, Purpose};
use std::path::Path;

const CHAPTERS: &[(&str, &str)] = &[
    ("policy.md", include_str!("../manual/policy.md")),
    ("limits.md", include_str!("../manual/limits.md")),
    ("applications.md", include_str!("../manual/applications.md")),
    ("operating.md", include_str!("../manual/operating.md")),
    ("migration.md", include_str!("../manual/migration.md")),
];

/// What a sample leaves out because it is about something else.
const REST: &[(&str, &str)] = &[
    ("[[listener]]", "[[listener]]\nname = 'plain'\naddress = '127.0.0.1:2525'\n"),
    ("[policy]", "[policy]\nfrom = ['*@example.com']\n"),
    ("[ses]", "[ses]\nregion = 'us-east-1'\n"),
    ("[aws]", "[aws]\naccount = '111122223333'\n"),
];

fn samples(text: &str) -> impl Iterator<Item = &str> {
    text.split("```toml\n").skip(1).filter_map(|rest| rest.split("\n```").next())
}

#[test]
fn every_sample_of_the_documents_starts() {
    let process_environment = ProcessEnvironment::new(Vec::new(), Some("relay.example".to_owned()));
    let mut seen = 0;
    for (chapter, text) in CHAPTERS {
        for sample in samples(text) {
            seen += 1;
            let says = |head: &str| {
                let name = head.trim_matches(['[', ']']);
                sample.contains(head)
                    || sample
                        .lines()
                        .any(|line| line.starts_with(&format!("{name}.")) || line.starts_with(&format!("{name} =")))
            };
            let missing = REST.iter().filter(|(head, _)| !says(head)).map(|(_, rest)| *rest);
            let web = "[[app]]\nname = 'web'\nnetworks = ['10.9.0.0/16']\nfrom = ['*@x.example']\n";
            let web = if sample.contains("apps = [\"web\"]") { web } else { "" };
            let whole = format!("{sample}\n{}{web}", missing.collect::<String>());
            let config = Config::parse(Path::new(chapter), &whole, std::iter::empty());
            let config = config.unwrap_or_else(|error| panic!("{whole}\n{error}"));
            let diagnostics = match config.plan(&process_environment, Purpose::Check) {
                Ok(_) => Vec::new(),
                Err(ConfigError::Wrong(diagnostics)) => diagnostics.iter().map(ToString::to_string).collect(),
                Err(error) => panic!("{chapter}: {error}"),
            };
            // A file that is not there, and the users that would have stood in it.
            let absent = [
                "cannot read",
                "cannot be found",
                "other machines can reach",
                "AUTH is offered, but there are no users",
                "there is no user \"",
            ];
            let others = diagnostics.iter().filter(|diagnostic| !absent.iter().any(|text| diagnostic.contains(text)));
            let others: Vec<&String> = others.collect();
            assert!(others.is_empty(), "{chapter}: {others:#?}\n{whole}");
        }
    }
    assert!(seen >= 14, "{seen}");
}
