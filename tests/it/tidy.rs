//! Rules of the repository that neither the compiler nor a lint holds.

use crate::harness::repository;
use crate::harness::run::{command, run};
use std::path::{Path, PathBuf};

#[test]
fn one_crypto_provider_is_in_the_tree() {
    let mut cargo = command(env!("CARGO"));
    let tree = run(cargo.current_dir(repository()).args(["tree", "--workspace", "--locked", "--prefix", "none"]));
    assert!(tree.text.contains("aws-lc-rs v"), "the tree was listed: {}", tree.text);
    for banned in ["ring v", "openssl-sys v", "native-tls v"] {
        let found = tree.text.lines().find(|line| line.starts_with(banned));
        assert!(found.is_none(), "{found:?} is in the tree; see deny.toml");
    }
}

#[test]
fn layers_see_only_what_they_may() {
    let rules: [(&str, &[&str]); 7] = [
        ("provider/tf/src", &["pve::", "agent_proto::"]),
        ("provider/pve/src", &["tf::", "agent_proto::", "tfplugin::"]),
        ("provider/src/resources", &["tfplugin::", "agent_proto::", "tonic::"]),
        ("provider/src/data_sources", &["tfplugin::", "agent_proto::", "tonic::"]),
        ("provider/src/ephemeral_resources", &["tfplugin::", "agent_proto::", "tonic::"]),
        ("agent/src/server", &["host::Command", "std::fs::", "std::process"]),
        ("agent/src/steps", &["std::fs::", "std::process", "tonic::", "std::net::", "tokio::fs"]),
    ];
    for (folder, banned) in rules {
        let files = rust_files(&repository().join(folder));
        assert!(!files.is_empty(), "{folder} holds code");
        for file in files {
            let code = code_of(&file);
            for word in banned {
                let found = code.lines().find(|line| sees(line, word));
                assert!(found.is_none(), "{} must not see {word}: {found:?}", file.display());
            }
        }
    }
}

#[test]
fn no_resource_sees_anothers_file() {
    let folder = repository().join("provider/src/resources");
    let all = rust_files(&folder);
    let resource = |file: &Path| {
        let inside = file.strip_prefix(&folder).expect("below it").with_extension("");
        inside.iter().next().expect("a name").to_string_lossy().into_owned()
    };
    let names: std::collections::BTreeSet<String> = all.iter().map(|file| resource(file)).collect();
    assert!(names.len() > 3, "{names:?}");
    for file in &all {
        let code = code_of(file);
        for other in names.iter().filter(|name| **name != resource(file)) {
            let banned = [format!("resources::{other}"), format!("super::{other}::")];
            let found = code.lines().find(|line| banned.iter().any(|word| sees(line, word)));
            assert!(found.is_none(), "{} must not see {other}: {found:?}", file.display());
        }
    }
}

/// Whether `line` names the path `word` itself, not a longer name that ends alike.
fn sees(line: &str, word: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices(word).any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
}

#[test]
fn only_the_wire_knows_msgpack() {
    for file in rust_files(&repository().join("provider")) {
        let wire = file.components().any(|part| part.as_os_str() == "wire" || part.as_os_str() == "wire.rs");
        assert!(wire || !code_of(&file).lines().any(|line| sees(line, "rmp::")), "{} knows msgpack", file.display());
    }
}

#[test]
fn files_are_of_readable_size() {
    for file in all_rust_files() {
        let lines = code_of(&file).lines().count();
        assert!(lines <= 500, "{} has {lines} lines before its tests; split it by concept", file.display());
    }
}

#[test]
fn every_file_says_what_it_is() {
    for file in all_rust_files() {
        let text = std::fs::read_to_string(&file).expect("source");
        assert!(text.starts_with("//!"), "{} has no //! header", file.display());
    }
}

#[test]
fn nothing_unfinished_is_left() {
    for file in all_rust_files().into_iter().filter(|file| !file.ends_with("tidy.rs")) {
        let text = std::fs::read_to_string(&file).expect("source");
        for word in ["todo!(", "unimplemented!(", "FIXME", "XXX", "#[ignore"] {
            assert!(!text.contains(word), "{} holds {word}", file.display());
        }
    }
}

/// Everything above the tests.
fn code_of(file: &Path) -> String {
    let text = std::fs::read_to_string(file).expect("source");
    text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()
}

fn all_rust_files() -> Vec<PathBuf> {
    let folders = ["proto", "provider", "agent", "tests"];
    let files = folders.iter().flat_map(|folder| rust_files(&repository().join(folder)));
    files.filter(|file| !file.components().any(|part| part.as_os_str() == "gen")).collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder of ours").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found
}
