//! The house as it is drawn: floors, doors that only one room may open, and what may not be a dependency.
//!
//! A mirror of the architecture: when the house changes, picture and mirror change in the same commit.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Room → floor. Imports go down only; rooms on one floor do not know each other.
const FLOORS: &[(&str, u8)] = &[
    ("mail", 0),
    ("iam", 0),
    ("smtp", 1),
    ("policy", 1),
    ("limit", 1),
    ("auth", 1),
    ("transport", 1),
    ("observe", 1),
    ("relay", 2),
    ("server", 3),
    ("admin", 3),
    ("builder", 4),
    ("config", 5),
    ("cli", 6),
];

/// What may see what, beside what lies on a lower floor. The emulator stands apart: only the top floors start it.
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

/// The rooms that a text names as `crate::room` or inside `use crate::{room, …}`.
fn rooms_named(code: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        if let Some(list) = rest.strip_prefix('{') {
            rooms.extend(list.split('}').next().unwrap_or_default().split(',').map(|item| word(item.trim())));
        } else {
            rooms.push(word(rest));
        }
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

#[test]
fn imports_go_down_only() {
    let floor = |room: &str| FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor);
    let mut wrong = Vec::new();
    for (file, code) in sources() {
        let here = file.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
        if matches!(here.as_str(), "lib" | "main") {
            continue;
        }
        for room in rooms_named(&code) {
            let allowed = room == here
                || EXCEPTIONS.contains(&(here.as_str(), room.as_str()))
                || matches!((floor(&here), floor(&room)), (Some(above), Some(below)) if below < above);
            if !allowed {
                wrong.push(format!("{file} names crate::{room}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_room_is_in_the_picture() {
    let rooms: Vec<String> = std::fs::read_dir(root().join("src"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    for room in rooms {
        let known = FLOORS.iter().any(|(name, _)| *name == room) || matches!(room.as_str(), "emulator" | "manual");
        assert!(known, "src/{room} is on no floor");
    }
}

#[test]
fn only_admission_permits_a_message() {
    let makers: Vec<String> =
        sources().into_iter().filter(|(_, code)| code.contains("Permitted::permit(")).map(|(file, _)| file).collect();
    assert_eq!(makers, ["relay/admission.rs"]);
}

#[test]
fn files_are_called_off_the_event_loop_by_storage_only() {
    // Files that are read once, at start, may be read where they are wanted: config and cli. The listener names its
    // own socket file. Quotas are written by a thread of their own. What /proc says is no file on a disk.
    let allowed = [
        "admin/process.rs",
        "admin/socket.rs",
        "limit/quota_journal.rs",
        "main.rs",
        "relay/spill_file.rs",
        "server/listener.rs",
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
        assert!(lines <= 450, "{file} has {lines} lines of code: look for the noun that wants out");
    }
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The bans of `.deny.toml`, from `cargo tree`, so that they hold where no tool is installed.
#[test]
fn banned_crates_are_not_in_the_tree() {
    let tree = cargo(&[
        "tree",
        "--locked",
        "--offline",
        "--all-features",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--target",
        "x86_64-unknown-linux-gnu",
        "--format",
        "{p}",
    ]);
    for line in tree.lines() {
        let mut words = line.split(' ');
        let (name, version) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let banned = match name {
            "ring" | "openssl" | "openssl-sys" | "native-tls" | "rustls-pemfile" => true,
            "rustls" => !version.starts_with("v0.23."),
            "hyper" => !version.starts_with("v1."),
            "h2" => version.starts_with("v0.3."),
            _ => false,
        };
        assert!(!banned, "{name} {version} is banned; see .deny.toml");
    }
    let deny = std::fs::read_to_string(root().join(".deny.toml")).unwrap();
    for name in ["ring", "openssl", "openssl-sys", "native-tls", "rustls-pemfile"] {
        assert!(deny.contains(&format!("crate = \"{name}\"")), "{name} is in .deny.toml too");
    }
}

/// A library user can have the SMTP door, policy and limits without AWS and without the binary's dependencies.
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
