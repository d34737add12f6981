//! What the documents claim, each claim with a test: those tests are there, under these names, and no requirement is
//! left out.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Every requirement of ASVS 5.0.0 V7 and V3.3, and of NIST SP 800-63B-4 the sections and list items of §5.
const REQUIREMENTS: [&str; 41] = [
    "7.1.1",
    "7.1.2",
    "7.1.3",
    "7.2.1",
    "7.2.2",
    "7.2.3",
    "7.2.4",
    "7.3.1",
    "7.3.2",
    "7.4.1",
    "7.4.2",
    "7.4.3",
    "7.4.4",
    "7.4.5",
    "7.5.1",
    "7.5.2",
    "7.5.3",
    "7.6.1",
    "7.6.2",
    "3.3.1",
    "3.3.2",
    "3.3.3",
    "3.3.4",
    "3.3.5",
    "5.1",
    "5.1 (1)",
    "5.1 (2)",
    "5.1 (3)",
    "5.1 (4)",
    "5.1 (5)",
    "5.1 (6)",
    "5.1.1 (1)",
    "5.1.1 (2)",
    "5.1.1 (3)",
    "5.1.1 (4)",
    "5.1.1 (5)",
    "5.1.1 (6)",
    "5.1.1 (7)",
    "5.1.2",
    "5.2",
    "5.3",
];

/// Those with more than one row, since they ask for more than one thing without a number of its own.
const ROWS: [(&str, usize); 3] = [("5.1", 12), ("5.2", 5), ("5.3", 2)];

#[test]
fn every_row_of_the_standards_names_tests_that_exist() {
    let rows: Vec<_> = rows("SECURITY.md")
        .into_iter()
        .filter(|cells| {
            cells.len() == 4 && cells[0].starts_with(|first: char| first.is_ascii_digit())
        })
        .collect();
    for requirement in REQUIREMENTS {
        let several = ROWS.iter().find(|(of, _)| *of == requirement);
        let expected = several.map_or(1, |(_, rows)| *rows);
        let there = rows.iter().filter(|cells| cells[0] == requirement).count();
        assert_eq!(there, expected, "rows of {requirement}");
    }
    for cells in &rows {
        let requirement = &*cells[0];
        assert!(REQUIREMENTS.contains(&requirement), "{requirement} is new");
        // What no library can do has no test.
        if cells[3] == "–" {
            assert!(cells[2].starts_with("App"), "{cells:?} has no test");
            continue;
        }
        names_tests(&cells[3]);
    }
}

#[test]
fn every_attacker_of_the_threat_model_has_tests_that_exist() {
    const ATTACKERS: usize = 10;
    let rows = rows("SECURITY.md").into_iter();
    let tested = rows.skip_while(|cells| cells[0] != "Attacker").skip(1);
    let tested: Vec<_> = tested
        .take_while(|cells| cells[0] != "Requirement")
        .collect();
    assert_eq!(tested.len(), ATTACKERS);
    for cells in tested {
        names_tests(&cells[3]);
    }
}

/// Checks that each of these is there, given as `` `file::name`, `file::name` ``.
fn names_tests(cell: &str) {
    for test in cell.split(", ") {
        let (file, name) = test.trim_matches('`').split_once("::").unwrap();
        assert!(is_a_test_of(file, name), "{test} is not there");
    }
}

#[test]
fn every_failure_of_a_store_in_the_tables_is_one_test_and_every_test_one_row() {
    const TESTS: &str = "when_the_store_fails";
    let rows = rows("docs/when-the-store-fails.md").into_iter();
    let named = rows.filter(|cells| cells.len() == 5 && cells[4] != "Test");
    let mut named: Vec<_> = named
        .map(|cells| cells[4].trim_matches('`').to_owned())
        .collect();
    for name in &named {
        assert!(is_a_test_of(TESTS, name), "{name} is not there");
    }
    let mut written = tests_of(TESTS);
    named.sort();
    written.sort();
    assert_eq!(named, written);
}

/// The names of all tests of `tests/FILE/`.
fn tests_of(file: &str) -> Vec<String> {
    let folder = fs::read_dir(root().join("tests").join(file)).unwrap();
    let texts = folder.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    let names = |text: String| {
        let text = text.replace("test(start_paused = true)]", "test]");
        let attributed = text.split("test]\n").skip(1);
        let named = attributed.map(|after| {
            let (_, name) = after.split_once("fn ").unwrap();
            name.split_once('(').unwrap().0.to_owned()
        });
        named.collect::<Vec<_>>()
    };
    texts.flat_map(names).collect()
}

/// The cells of each row of this file's tables, headings included and rules left out.
fn rows(file: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join(file)).unwrap();
    let rows = text
        .lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("|---"));
    rows.map(|line| {
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    })
    .collect()
}

/// Whether a test of this name is in `tests/FILE.rs`, or in a file of `tests/FILE/`.
fn is_a_test_of(file: &str, name: &str) -> bool {
    let tests = root().join("tests");
    let mut files = vec![tests.join(format!("{file}.rs"))];
    if let Ok(folder) = fs::read_dir(tests.join(file)) {
        files.extend(folder.map(|entry| entry.unwrap().path()));
    }
    let is_in = |file: &PathBuf| {
        let text = fs::read_to_string(file).unwrap_or_default();
        is_attributed(&text, name)
            || is_listed(&text, name) && text.contains(&format!("fn {name}("))
    };
    files.iter().any(is_in)
}

/// Whether it stands alone in a line, as in the list of a macro that makes a test of it on each store.
fn is_listed(text: &str, name: &str) -> bool {
    text.lines()
        .any(|line| line.trim().trim_end_matches(',') == name)
}

/// Whether the function is there under a `#[test]` or `#[tokio::test]`, or another attribute of a test, and is not
/// left out of a run.
fn is_attributed(text: &str, name: &str) -> bool {
    let Some((before, _)) = text.split_once(&format!("fn {name}(")) else {
        return false;
    };
    let before = before.trim_end_matches("async ").lines().rev();
    let attributes: Vec<_> = before.take_while(|line| line.starts_with("#[")).collect();
    attributes.iter().any(|line| line.contains("test"))
        && !attributes.iter().any(|line| line.starts_with("#[ignore"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
