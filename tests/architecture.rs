//! The architecture as a test: layers, circles, what only one module may do, and what may not be a dependency.
//!
//! When the architecture changes, this file and the picture in `src/lib.rs` change in the same commit.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Module → layer. Imports go down only; modules of one layer do not know each other.
const LAYERS: &[(&str, u8)] = &[
    ("mail", 0),
    ("iam", 0),
    ("smtp", 1),
    ("policy", 1),
    ("limit", 1),
    ("auth", 1),
    ("transport", 1),
    ("observe", 1),
    ("spool", 1),
    ("relay", 2),
    ("server", 3),
    ("admin", 3),
    ("builder", 4),
    ("config", 5),
    ("cli", 6),
];

/// Imports beside those of a lower layer. The emulator stands apart: only the top layers start it.
const EXCEPTIONS: &[(&str, &str)] = &[("config", "emulator"), ("cli", "emulator")];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// File → text without comment lines, for every file below `src` that is no test.
fn sources() -> BTreeMap<String, String> {
    let src = root().join("src");
    let name = |path: &Path| path.strip_prefix(&src).unwrap().to_string_lossy().replace('\\', "/");
    rust_files(&src)
        .into_iter()
        .filter(|path| !name(path).contains("tests"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let lines: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            (name(&path), lines.join("\n"))
        })
        .collect()
}

/// The modules that a text names as `crate::module` or inside `use crate::{module, …}`.
fn modules_named(code: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        if let Some(list) = rest.strip_prefix('{') {
            modules.extend(list.split('}').next().unwrap_or_default().split(',').map(|item| word(item.trim())));
        } else {
            modules.push(word(rest));
        }
    }
    modules.retain(|module| !module.is_empty());
    modules
}

#[test]
fn imports_go_down_only() {
    let layer = |module: &str| LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer);
    let mut wrong = Vec::new();
    for (file, code) in sources() {
        let here = file.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
        if matches!(here.as_str(), "lib" | "main") {
            continue;
        }
        for module in modules_named(&code) {
            let allowed = module == here
                || EXCEPTIONS.contains(&(here.as_str(), module.as_str()))
                || matches!((layer(&here), layer(&module)), (Some(above), Some(below)) if below < above);
            if !allowed {
                wrong.push(format!("{file} names crate::{module}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_module_has_a_layer() {
    for entry in std::fs::read_dir(root().join("src")).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_name().unwrap().to_string_lossy().into_owned();
        let known = LAYERS.iter().any(|(name, _)| *name == module) || matches!(module.as_str(), "emulator" | "manual");
        assert!(known || !path.is_dir(), "src/{module} has no layer");
    }
}

/// The paths of a `use` tree: `a::{b, c::{d, self}}` is `a::b`, `a::c::d` and `a::c`.
fn expand(tree: &str, before: &[String], paths: &mut Vec<Vec<String>>) {
    let (mut depth, mut start) = (0, 0);
    let mut parts = Vec::new();
    for (at, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&tree[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&tree[start..]);
    for part in parts.into_iter().map(str::trim).filter(|part| !part.is_empty()) {
        let (names, inside) = match part.split_once('{') {
            Some((names, rest)) => (names, Some(rest.rsplit_once('}').unwrap().0)),
            None => (part, None),
        };
        let names = names.split("::").map(|name| name.split(" as ").next().unwrap_or_default().trim().to_owned());
        let path: Vec<String> = before.iter().cloned().chain(names.filter(|name| !name.is_empty())).collect();
        match inside {
            Some(inside) => expand(inside, &path, paths),
            None => paths.push(path),
        }
    }
}

/// The trees of the `use` items.
fn use_trees(code: &str) -> Vec<&str> {
    let is_item = |before: &str| matches!(before.trim(), "" | "pub" | "pub(crate)" | "pub(super)");
    let items =
        code.match_indices("use ").filter(|(at, _)| is_item(code[..*at].rsplit('\n').next().unwrap_or_default()));
    items.filter_map(|(at, word)| Some(code[at + word.len()..].split_once(';')?.0)).collect()
}

/// What a file imports: the paths of its `use` items, and the other paths that begin with `super::` or `crate::`.
fn imported(code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for tree in use_trees(code).into_iter().filter(|tree| tree.starts_with("super::") || tree.starts_with("crate::")) {
        expand(tree, &[], &mut paths);
    }
    for start in ["super::", "crate::"] {
        for (at, _) in code.match_indices(start) {
            let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let path: String = code[at..].chars().take_while(|c| is_path(*c)).collect();
            paths.push(path.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect());
        }
    }
    paths
}

/// File `relay/send_queue.rs` → `relay::send_queue`, `relay/mod.rs` → `relay`.
fn module_of(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs");
    path.trim_end_matches("/mod").split('/').map(str::to_owned).collect()
}

/// Module → the modules of its own top-level module that it imports from, through re-exports too.
fn imports_within(sources: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<String>> {
    let modules: BTreeSet<Vec<String>> = sources.keys().map(|file| module_of(file)).collect();
    let mut reexports: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
    for (file, code) in sources {
        let here = module_of(file);
        for tree in use_trees(code) {
            let mut paths = Vec::new();
            expand(tree, &[], &mut paths);
            for path in paths.iter().filter(|path| path.len() > 1) {
                let from: Vec<String> = here.iter().cloned().chain(path[..path.len() - 1].iter().cloned()).collect();
                if modules.contains(&from) {
                    let name = here.iter().cloned().chain([path[path.len() - 1].clone()]).collect();
                    reexports.insert(name, from);
                }
            }
        }
    }
    let mut graph = BTreeMap::new();
    for (file, code) in sources {
        let here = module_of(file);
        let targets = imported(code).into_iter().filter_map(|path| {
            let mut at = if path[0] == "super" { here.clone() } else { Vec::new() };
            for name in &path {
                match name.as_str() {
                    "super" => drop(at.pop()),
                    "crate" | "self" => {}
                    name => at.push(name.to_owned()),
                }
            }
            let target = (1..=at.len()).rev().find_map(|length| {
                let prefix = at[..length].to_vec();
                reexports.get(&prefix).cloned().or_else(|| modules.contains(&prefix).then_some(prefix))
            })?;
            // A front page is not an import of what it shows, and a parent may use its children.
            let is_own = target == here || here.starts_with(&target) || target.starts_with(&here);
            (target[0] == here[0] && !is_own).then(|| target.join("::"))
        });
        graph.insert(here.join("::"), targets.collect());
    }
    graph
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let graph = imports_within(&sources());
    assert!(graph["relay::send_queue"].contains("relay::fair_queue"), "imports are found");
    // What a module reaches, step by step; one that reaches itself is in a circle.
    let mut circles = Vec::new();
    for start in graph.keys() {
        let mut reached = BTreeSet::new();
        let mut open: Vec<&String> = graph[start].iter().collect();
        while let Some(next) = open.pop() {
            if reached.insert(next) {
                open.extend(graph.get(next).into_iter().flatten());
            }
        }
        if reached.contains(start) {
            circles.push(format!("{start} -> {:?}", graph[start]));
        }
    }
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn circles_are_seen() {
    let sources = |second: &str| {
        BTreeMap::from([
            ("a/mod.rs".to_owned(), "mod b; mod c;\npub use c::Thing;".to_owned()),
            ("a/b.rs".to_owned(), "use super::{Thing, d::{self, X as Y}};".to_owned()),
            ("a/c.rs".to_owned(), second.to_owned()),
            ("a/d.rs".to_owned(), String::new()),
        ])
    };
    let graph = imports_within(&sources("fn f() { super::b::g() }"));
    assert_eq!(graph["a::b"], ["a::c", "a::d"].map(str::to_owned).into());
    assert_eq!(graph["a::c"], ["a::b"].map(str::to_owned).into());
    assert_eq!(imports_within(&sources("use super::d::X;"))["a::c"], ["a::d"].map(str::to_owned).into());
}

#[test]
fn only_admission_permits_a_message_and_only_the_spool_restores_one() {
    for (call, allowed) in
        [("Permitted::permit(", "relay/admission.rs"), ("Permitted::restore(", "spool/stored_message.rs")]
    {
        let makers: Vec<String> =
            sources().into_iter().filter(|(_, code)| code.contains(call)).map(|(file, _)| file).collect();
        assert_eq!(makers, [allowed], "{call}");
    }
}

#[test]
fn files_are_called_off_the_event_loop_by_storage_only() {
    // Files that are read once, at start, may be read where they are wanted: config and cli. The listener names its
    // own socket file. Quotas are written by a thread of their own, and so is the spool. What /proc says is no file on a disk.
    let allowed = [
        "admin/process.rs",
        "admin/socket.rs",
        "limit/quota_journal.rs",
        "main.rs",
        "relay/spill_file.rs",
        "server/listener.rs",
        "spool/dead_letters.rs",
        "spool/disk/mod.rs",
        "spool/disk/storage.rs",
    ];
    for (file, code) in sources() {
        let top = file.starts_with("config") || file.starts_with("cli") || file.starts_with("emulator");
        if !top && !allowed.contains(&file.as_str()) {
            assert!(!code.contains("std::fs::"), "{file} calls the file system");
        }
    }
}

#[test]
fn the_smtp_core_does_no_input_or_output() {
    for (file, code) in sources() {
        if file.starts_with("smtp/") || file.starts_with("mail/") {
            for word in ["tokio", "std::net::Tcp", "std::io::", "std::fs", "std::thread", "std::process"] {
                assert!(!code.contains(word), "{file} has {word}");
            }
        }
    }
}

#[test]
fn files_stay_short_enough_to_read() {
    for (file, code) in sources() {
        let lines = code.lines().filter(|line| !line.trim().is_empty()).count();
        assert!(lines <= 450, "{file} has {lines} lines of code: look for the type that wants a file");
    }
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// `cargo tree` of everything that is compiled into the shipped program, one line a package.
fn shipped_packages(format: &str) -> String {
    let target = "x86_64-unknown-linux-gnu";
    let edges = ["--all-features", "--edges", "normal,build", "--target", target];
    cargo(&[&["tree", "--locked", "--offline", "--prefix", "none", "--format", format], &edges[..]].concat())
}

/// One TLS library with one provider, no archived crate, no HTTP client of the AWS SDK's old default features.
#[test]
fn banned_crates_are_not_in_the_tree() {
    for line in shipped_packages("{p}").lines() {
        let mut words = line.split(' ');
        let (name, version) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let banned = match name {
            // The last one is archived: RUSTSEC-2025-0134.
            "ring" | "openssl" | "openssl-sys" | "native-tls" | "rustls-pemfile" => true,
            "rustls" => !version.starts_with("v0.23."),
            "hyper" => !version.starts_with("v1."),
            "h2" => version.starts_with("v0.3."),
            _ => false,
        };
        assert!(!banned, "{name} {version} is banned");
    }
}

/// Every package may be used under a licence of this list, and comes from crates.io.
#[test]
fn licences_and_sources_are_known() {
    const LICENCES: [&str; 9] =
        ["MIT", "Apache-2.0", "ISC", "BSD-3-Clause", "Unicode-3.0", "Zlib", "CDLA-Permissive-2.0", "0BSD", "BSL-1.0"];
    for line in shipped_packages("{p} = {l}").lines() {
        let (package, licences) = line.trim_end_matches(" (*)").split_once(" = ").unwrap();
        let permitted = licences.split(" AND ").all(|part| {
            let part = part.trim_matches(['(', ')']).replace(" OR ", "/");
            part.split('/').any(|licence| LICENCES.contains(&licence.trim()))
        });
        assert!(permitted, "{package}: {licences:?}");
    }
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let sources: BTreeSet<&str> = lock.lines().filter_map(|line| line.strip_prefix("source = ")).collect();
    assert_eq!(sources, BTreeSet::from(["\"registry+https://github.com/rust-lang/crates.io-index\""]));
}

/// A library user can have the SMTP server, policy and limits without AWS and without the binary's dependencies.
#[test]
fn the_core_has_no_aws_in_it() {
    let tree = cargo(&[
        "tree",
        "--locked",
        "--offline",
        "--no-default-features",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    for name in ["aws-sdk", "aws-config", "hyper", "clap", "toml", "lettre", "redis"] {
        assert!(!tree.lines().any(|line| line.starts_with(name)), "{name} is in the core");
    }
}

#[test]
fn every_test_that_the_table_of_faults_names_exists() {
    fn read(directory: &Path, text: &mut String) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_owned();
            if path.is_dir() {
                read(&path, text);
            } else if matches!(extension.as_str(), "rs" | "py") {
                text.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut code = String::new();
    for directory in ["src", "tests"] {
        read(&root().join(directory), &mut code);
    }
    let readme = std::fs::read_to_string(root().join("tests/README.md")).unwrap();
    let table = readme.split("## Faults").nth(1).unwrap().split("\n## ").next().unwrap();
    let names =
        table.split('`').skip(1).step_by(2).filter(|name| !name.contains(['/', '*', ' ', '=']) && name.len() > 20);
    let mut found = 0;
    for name in names {
        assert!(code.contains(&format!("fn {name}(")) || code.contains(&format!("def {name}(")), "{name}");
        found += 1;
    }
    assert!(found > 30, "{found}");
}
