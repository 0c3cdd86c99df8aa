//! The manual: one short chapter for each question. Read it here, or as the Markdown files next to this one.
//!
//! - Start: [`walk`], [`applications`], [`migration`].
//! - Operate: [`operating`], [`runbook`], [`replies`], [`failures`], [`outage`], [`spool`], [`unauthorized`].
//! - Decide who sends what, and how much: [`policy`], [`limits`], [`performance`].
//! - Understand and extend: [`vulnerabilities`], [`benchmark`], [`embedding`].

/// Follow one message through the relay, from the connection to the reply.
///
#[doc = include_str!("walk.md")]
pub mod walk {}

/// Configure an application to send through gatepost, and the listener that it needs.
///
#[doc = include_str!("applications.md")]
pub mod applications {}

/// Translate the configuration of Postfix, aws-smtp-relay or smtprelay.
///
#[doc = include_str!("migration.md")]
pub mod migration {}

/// Check health, read metrics and log, check a configuration, set up TLS and the service.
///
#[doc = include_str!("operating.md")]
pub mod operating {}

/// Install the alerts and the dashboard, and know for each alert what to do.
///
#[doc = include_str!("runbook.md")]
pub mod runbook {}

/// Find the cause of a reply that a client received.
///
#[doc = include_str!("replies.md")]
pub mod replies {}

/// Look up each failure: what the client receives, whether the message was sent, who must act.
///
#[doc = include_str!("failures.md")]
pub mod failures {}

/// Know which programs lose mail while SES is not available, and prepare for it.
///
#[doc = include_str!("outage.md")]
pub mod outage {}

/// Decide which accepted mail is kept on disk, and know what is promised for it.
///
#[doc = include_str!("spool.md")]
pub mod spool {}

/// Find the cause when IAM denies a message, and write the policies that permit it.
///
#[doc = include_str!("unauthorized.md")]
pub mod unauthorized {}

/// Write a configuration that permits each application its own From addresses.
///
#[doc = include_str!("policy.md")]
pub mod policy {}

/// Limit what each application sends, without losing mail, on one relay or several.
///
#[doc = include_str!("limits.md")]
pub mod limits {}

/// Estimate CPU, memory and latency, and the number of relays.
///
#[doc = include_str!("performance.md")]
pub mod performance {}

/// Look up the known attacks on SMTP servers, and what prevents each.
///
#[doc = include_str!("vulnerabilities.md")]
pub mod vulnerabilities {}

/// Repeat the measurements, and judge their results.
///
#[doc = include_str!("benchmark.md")]
pub mod benchmark {}

/// Run a relay inside your own Rust program.
///
#[doc = include_str!("embedding.md")]
pub mod embedding {}

/// Compares the first table of a chapter with the rows of a table of the code.
///
/// With `GATEPOST_REFRESH=1 cargo test --lib manual` it writes them instead.
#[cfg(test)]
pub(crate) fn table_is(file: &str, chapter: &str, rows: &str) {
    let table = chapter.split("| --- |\n").nth(1).unwrap().split("\n\n").next().unwrap();
    if std::env::var_os("GATEPOST_REFRESH").is_some() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/manual").join(file);
        std::fs::write(path, chapter.replace(table, rows.trim_end())).unwrap();
    } else {
        assert_eq!(table.trim_end(), rows.trim_end(), "src/manual/{file}: GATEPOST_REFRESH=1 cargo test --lib manual");
    }
}

#[cfg(test)]
mod tests {
    use crate::mail::replies;

    /// The table of the chapter is the table of the code.
    #[test]
    fn the_chapter_on_replies_lists_every_row() {
        let rows: String = replies::ALL
            .iter()
            .map(|(name, reply)| {
                let status = reply.status().map(|status| status.to_string()).unwrap_or_default();
                format!("| {} | {status} | {} | `{name}` |\n", reply.code(), reply.text().replace('<', "&lt;"))
            })
            .collect();
        super::table_is("replies.md", include_str!("replies.md"), &rows);
    }

    /// The promises of the spool: each names the test that holds it.
    #[test]
    fn every_test_that_the_chapter_on_the_spool_names_exists() {
        fn sources(directory: &std::path::Path, text: &mut String) {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                match path.extension() {
                    _ if path.is_dir() => sources(&path, text),
                    Some(extension) if extension == "rs" => text.push_str(&std::fs::read_to_string(path).unwrap()),
                    _ => {}
                }
            }
        }
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut code = String::new();
        sources(&root.join("src/spool"), &mut code);
        sources(&root.join("tests/relay"), &mut code);
        let table =
            include_str!("spool.md").split("| Held by the test |").nth(1).unwrap().split("\n\n").next().unwrap();
        let names = table.split('`').skip(1).step_by(2).map(|name| name.rsplit("::").next().unwrap());
        let mut found = 0;
        for name in names.filter(|name| !name.contains(['.', '/'])) {
            assert!(code.contains(&format!("fn {name}(")) || code.contains(&format!("fn {name}<")), "{name}");
            found += 1;
        }
        assert!(found > 10, "{found}");
    }

    /// Each alert has a paragraph with its cause and what to do.
    #[test]
    fn every_alert_has_its_paragraph_and_its_annotations() {
        let (alerts, chapter) = (include_str!("../../deploy/alerts.yaml"), include_str!("runbook.md"));
        let rules: Vec<&str> = alerts.split("- alert: ").skip(1).collect();
        let names: Vec<&str> = rules.iter().map(|rule| rule.lines().next().unwrap()).collect();
        let headings = |line: &'static str| line.strip_prefix("## ").filter(|name| name.starts_with("Gatepost"));
        let mut paragraphs: Vec<&str> = chapter.lines().filter_map(headings).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        paragraphs.sort_unstable();
        assert_eq!(sorted, paragraphs);
        for (rule, name) in rules.iter().zip(&names) {
            let has = |text: &str| assert!(rule.contains(text), "{name} lacks {text}");
            for annotation in ["summary: ", "description: "] {
                has(annotation);
            }
            has(&format!("runbook_url: src/manual/runbook.md#{}\n", name.to_lowercase()));
            assert!(rule.contains("severity: critical\n") || rule.contains("severity: warning\n"), "{name}");
        }
        for link in chapter.split("](#").skip(1).map(|text| text.split(')').next().unwrap()) {
            assert!(names.iter().any(|name| name.to_lowercase() == link), "{link}");
        }
    }

    /// The second tier compares dashboard and alerts with a relay; this needs no relay.
    #[test]
    fn every_metric_of_dashboard_alerts_and_runbook_is_in_the_chapter_on_operating() {
        let operating = include_str!("operating.md");
        let is_known = |name: &str| {
            let series = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            [name, series]
                .iter()
                .any(|name| operating.contains(&format!("`{name}`")) || operating.contains(&format!("`{name}{{")))
        };
        for (file, text) in [
            ("deploy/grafana-dashboard.json", include_str!("../../deploy/grafana-dashboard.json")),
            ("deploy/alerts.yaml", include_str!("../../deploy/alerts.yaml")),
            ("src/manual/runbook.md", include_str!("runbook.md")),
        ] {
            let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
            let names: Vec<&str> =
                words.filter(|word| word.starts_with("gatepost_") || word.starts_with("process_")).collect();
            assert!(names.len() > 5, "{file}");
            for name in names {
                assert!(is_known(name), "{file}: {name}");
            }
        }
    }

    /// Every sample of the chapters on policy and migration, with the files that they name.
    #[cfg(feature = "cli")]
    #[test]
    fn every_sample_of_a_configuration_is_good() {
        use crate::config::{Config, ProcessEnvironment, Purpose, certificates};
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let paths = certificates::PairPaths::within(directory.path());
        certificates::Pair::make(&["localhost".to_owned()]).unwrap().write(&paths, false).unwrap();
        std::fs::copy(file("ca.pem"), file("clients-ca.pem")).unwrap();
        let hash = "$2b$04$abcdefghijklmnopqrstuu5Lo0g67CiD3M4RpN1BmBb4Crp5w7dbK";
        std::fs::write(file("users"), format!("shop:{hash}\n")).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(file("users"), std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let blocks = |chapter: &str, language: &str| -> Vec<String> {
            let begin = format!("```{language}\n");
            let parts = chapter.split(begin.as_str()).skip(1);
            parts.map(|part| part.split("```").next().unwrap_or_default().to_owned()).collect()
        };
        for (name, chapter, samples) in [
            ("policy", include_str!("policy.md"), 8),
            ("migration", include_str!("migration.md"), 3),
            ("spool", include_str!("spool.md"), 1),
        ] {
            for document in blocks(chapter, "json") {
                std::fs::write(file("billing.json"), document).unwrap();
            }
            let found = blocks(chapter, "toml");
            assert_eq!(found.len(), samples, "{name}");
            for sample in found {
                let text = sample.replace("/etc/gatepost/", &format!("{}/", directory.path().display()));
                let process_environment = ProcessEnvironment::new(Vec::new(), Some("relay.example".to_owned()));
                let config = Config::parse(std::path::Path::new(name), &text, std::iter::empty());
                let plan = config.and_then(|config| config.plan(&process_environment, Purpose::Check));
                let plan = plan.unwrap_or_else(|error| panic!("{sample}\n{error}"));
                // Only what is for a while is warned of.
                for warning in &plan.warnings {
                    let hint = warning.hint.as_deref().unwrap_or_default();
                    assert!(["for a roll-out only", "for staging only"].contains(&hint), "{sample}\n{warning}");
                }
            }
        }
    }
}
