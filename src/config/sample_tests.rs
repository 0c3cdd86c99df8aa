//! The sample files and the schema: they load, they are complete, and they say what the program does.

use super::{Config, Plan, ProcessEnvironment, Purpose, Upstream};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

fn plan(name: &str) -> Plan {
    let config = Config::load(&sample(name), std::iter::empty()).unwrap();
    let process_environment = ProcessEnvironment::new(Vec::new(), Some("relay.example".to_owned()));
    config.plan(&process_environment, Purpose::Check).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_sample_is_good_and_nothing_in_it_is_warned_of() {
    for name in ["minimal.toml", "dev.toml", "reference.toml"] {
        let plan = plan(name);
        assert_eq!(plan.warnings, [], "{name}");
        let text = std::fs::read_to_string(sample(name)).unwrap();
        assert!(text.starts_with("#:schema ./schema.json\n"), "{name}");
    }
}

#[test]
fn the_development_sample_sends_to_an_emulator_and_listens_on_this_machine() {
    let plan = plan("dev.toml");
    assert!(matches!(&plan.upstream, Upstream::Emulator(setup) if setup.emulator.directory.is_some()));
    let names: Vec<String> =
        plan.listeners().map(|listener| format!("{} {:?}", listener.name, listener.endpoint)).collect();
    assert_eq!(names, ["plain Tcp(127.0.0.1:2525)", "starttls Tcp(127.0.0.1:2587)", "implicit Tcp(127.0.0.1:2465)"]);
}

#[test]
fn the_schema_file_is_the_one_that_the_program_prints() {
    let stored = std::fs::read_to_string(sample("schema.json")).unwrap();
    let hint = "run: cargo run -- schema > config/schema.json";
    assert!(stored == Config::schema(), "config/schema.json is not up to date; {hint}");
}

#[test]
fn the_reference_file_is_the_one_that_the_program_prints() {
    let stored = std::fs::read_to_string(sample("reference.toml")).unwrap();
    let hint = "run: cargo run -- reference > config/reference.toml";
    assert!(stored == Config::reference(), "config/reference.toml is not up to date; {hint}");
}

/// Every property of the schema with its path and its default.
fn properties(root: &Value, node: &Value, path: &str, found: &mut Vec<(String, Option<Value>)>) {
    let node = match node.get("$ref").and_then(Value::as_str) {
        Some(name) => root.pointer(name.trim_start_matches('#')).unwrap(),
        None => node,
    };
    for choice in node.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
        properties(root, choice, path, found);
    }
    if let Some(items) = node.get("items") {
        properties(root, items, path, found);
    }
    // A source is a value that may be written as a table: its three words are told at the head of the reference.
    if path.ends_with(".key") || node.pointer("/properties/file").is_some() {
        return;
    }
    for (name, property) in node.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        found.push((path.clone(), property.get("default").cloned()));
        properties(root, property, &path, found);
    }
}

fn all() -> Vec<(String, Option<Value>)> {
    let schema: Value = serde_json::from_str(&Config::schema()).unwrap();
    let mut found = Vec::new();
    properties(&schema, &schema, "", &mut found);
    found.retain(|(path, _)| !["file", "env", "credential"].iter().any(|kind| path.ends_with(&format!(".{kind}"))));
    assert!(found.len() > 80, "{}", found.len());
    found
}

#[test]
fn the_reference_has_every_key() {
    let text = std::fs::read_to_string(sample("reference.toml")).unwrap();
    let lines: Vec<&str> = text.lines().map(|line| line.trim_start_matches("# ")).collect();
    for (path, _) in all() {
        let name = path.rsplit('.').next().unwrap();
        let said = lines.iter().any(|line| {
            line.starts_with(&format!("{name} = ")) || *line == format!("[{path}]") || *line == format!("[[{path}]]")
        });
        assert!(said, "{path} is not in config/reference.toml");
    }
}

#[test]
fn what_the_reference_shows_as_a_default_is_the_default() {
    let text = std::fs::read_to_string(sample("reference.toml")).unwrap();
    let table: toml::Table = toml::from_str(&text).unwrap();
    let written = serde_json::to_value(table).unwrap();
    let mut compared = 0;
    for (path, default) in all() {
        let pointer =
            format!("/{}", path.replace("listener.", "listener/0/").replace("app.", "app/0/").replace('.', "/"));
        let (Some(shown), Some(default)) = (written.pointer(&pointer), default) else { continue };
        // These have no default that would work.
        if shown.is_object() || shown.is_array() && !shown.as_array().unwrap().is_empty() || path == "listener.address"
        {
            continue;
        }
        compared += 1;
        assert_eq!(*shown, default, "{path}");
    }
    assert!(compared > 45, "{compared}");
}
