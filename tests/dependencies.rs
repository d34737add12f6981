//! What the crate depends on: by what licences, from where, and with which types in its public API.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
fn every_dependency_can_be_used_under_licences_that_are_allowed() {
    let allowed = allowed_licences();
    for package in packages() {
        let licence = package["license"].as_str().unwrap_or("none");
        assert!(
            is_satisfied(licence, &allowed),
            "{} {} has the licence {licence}, which deny.toml does not allow",
            package["name"],
            package["version"]
        );
    }
}

#[test]
fn every_dependency_comes_from_crates_io() {
    const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";
    for package in packages() {
        let is_ours = package["name"] == "cloakroom";
        let source = package["source"].as_str();
        assert_eq!(
            source,
            (!is_ours).then_some(CRATES_IO),
            "{}",
            package["name"]
        );
    }
}

#[test]
fn a_licence_expression_is_satisfied_by_what_it_asks_for() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "A WITH x".to_owned()]);
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("(GPL-3.0 OR MIT) AND MIT", true),
        ("MIT AND (GPL-3.0 OR BSL-1.0)", false),
        ("GPL-3.0 OR MIT AND MIT", true),
        ("A WITH x", true),
        ("A", false),
        ("A WITH y", false),
        ("none", false),
    ] {
        assert_eq!(is_satisfied(expression, &allowed), expected, "{expression}");
    }
}

/// It documents the whole crate, with what rustdoc has in the making: `.ci/run` does it.
#[test]
#[ignore = "documents the whole crate"]
fn crates_with_types_in_the_public_api_are_those_that_are_documented() {
    let documented = documented_crates();
    let found = crates_in_public_api();
    for (name, items) in &found {
        assert!(
            documented.contains(name),
            "docs/public-dependencies.md does not name {name}, which has {items:?} in the public API"
        );
    }
    for name in documented {
        assert!(found.contains_key(&name), "no type of {name} is public");
    }
}

/// What cargo says of every package that is compiled, with all features, for tests as well.
fn packages() -> Vec<Value> {
    let compiler = Command::new("rustc").arg("-vV").output().unwrap();
    let compiler = String::from_utf8(compiler.stdout).unwrap();
    let host = compiler
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .unwrap();
    let output = cargo()
        .args(["metadata", "--format-version=1", "--all-features"])
        .args(["--locked", "--offline", "--filter-platform", host])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo
}

/// The list `allow` of `deny.toml`.
fn allowed_licences() -> BTreeSet<String> {
    let text = read("deny.toml");
    let (_, after) = text.split_once("\nallow = [").unwrap();
    let (list, _) = after.split_once(']').unwrap();
    list.lines()
        .map(|line| line.split('#').next().unwrap().trim())
        .map(|item| item.trim_end_matches(',').trim_matches('"').to_owned())
        .filter(|item| !item.is_empty())
        .collect()
}

/// Whether an SPDX expression can be chosen from so that each licence is one of these.
fn is_satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<_> = spaced.split_whitespace().collect();
    let mut words = &words[..];
    let satisfied = either(&mut words, allowed);
    assert!(words.is_empty(), "{expression}: {words:?} is left");
    satisfied
}

fn either(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut satisfied = both(words, allowed);
    while let ["OR", rest @ ..] = *words {
        *words = rest;
        satisfied |= both(words, allowed);
    }
    satisfied
}

fn both(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut satisfied = one(words, allowed);
    while let ["AND", rest @ ..] = *words {
        *words = rest;
        satisfied &= one(words, allowed);
    }
    satisfied
}

fn one(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let satisfied = either(words, allowed);
            let [")", rest @ ..] = *words else {
                panic!("a parenthesis is not closed");
            };
            *words = rest;
            satisfied
        }
        [licence, "WITH", exception, rest @ ..] => {
            *words = rest;
            allowed.contains(&format!("{licence} WITH {exception}"))
        }
        [licence, rest @ ..] => {
            *words = rest;
            allowed.contains(*licence)
        }
        [] => panic!("an expression ends too early"),
    }
}

/// The crates in the first column of the table, as they are called in Rust.
fn documented_crates() -> BTreeSet<String> {
    let text = read("docs/public-dependencies.md");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let names = rows.flat_map(|row| {
        let cell = row.split('|').nth(1).unwrap();
        // What stands between backticks.
        cell.split('`').skip(1).step_by(2).collect::<Vec<_>>()
    });
    names.map(|name| name.replace('-', "_")).collect()
}

/// The crates that the public API names items of, with these items.
fn crates_in_public_api() -> BTreeMap<String, BTreeSet<String>> {
    let docs = public_api();
    let items = docs["index"].as_object().unwrap();
    // What other crates implement for every type, and the compiler by itself, says nothing of this one.
    let is_foreign = |item: &&Value| {
        let implementation = &item["inner"]["impl"];
        implementation["blanket_impl"].is_object() || implementation["is_synthetic"] == true
    };
    let foreign: BTreeSet<_> = items
        .values()
        .filter(is_foreign)
        .flat_map(|item| {
            let methods = item["inner"]["impl"]["items"].as_array().unwrap();
            methods.iter().chain([&item["id"]]).map(Value::as_u64)
        })
        .collect();
    let mut ids = BTreeSet::new();
    for item in items.values() {
        if !foreign.contains(&item["id"].as_u64()) {
            named_ids(&item["inner"], &mut ids);
        }
    }
    let mut found: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for id in ids {
        let path = &docs["paths"][&id];
        let words = path["path"].as_array();
        let words: Vec<_> = words
            .into_iter()
            .flatten()
            .flat_map(Value::as_str)
            .collect();
        let Some(&name) = words.first() else { continue };
        let is_of_macros = words.contains(&"__private");
        if path["crate_id"] != 0 && !["core", "alloc", "std"].contains(&name) && !is_of_macros {
            let items = found.entry(name.to_owned()).or_default();
            items.insert(words.join("::"));
        }
    }
    found
}

/// The ids of all that is named below this value: by a type, a bound, an implementation or a re-export.
fn named_ids(value: &Value, ids: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            let is_name = fields.contains_key("path") || fields.contains_key("source");
            if let (true, Some(id)) = (is_name, fields.get("id").and_then(Value::as_u64)) {
                ids.insert(id.to_string());
            }
            fields.values().for_each(|field| named_ids(field, ids));
        }
        Value::Array(items) => items.iter().for_each(|item| named_ids(item, ids)),
        _ => {}
    }
}

/// What rustdoc knows of the public API.
fn public_api() -> Value {
    // The output as JSON is not stable yet. What unlocks it is meant for rustdoc alone, and not for the compiler:
    // that would build every dependency anew.
    const RUSTDOC: &str = "#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc \"$@\"\n";
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let rustdoc = folder.join("rustdoc-unlocked");
    fs::write(&rustdoc, RUSTDOC).unwrap();
    fs::set_permissions(&rustdoc, fs::Permissions::from_mode(0o755)).unwrap();
    let target = folder.parent().unwrap();
    let output = cargo()
        .args(["rustdoc", "--offline", "--quiet", "--lib", "--all-features"])
        .arg("--target-dir")
        .arg(target)
        .args(["--", "-Zunstable-options", "--output-format=json"])
        .env("RUSTDOC", &rustdoc)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let json = fs::read(target.join("doc/cloakroom.json")).unwrap();
    serde_json::from_slice(&json).unwrap()
}

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}
