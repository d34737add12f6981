//! Mistakes that do not compile, with an error that says what to do.
//!
//! Each fixture of `compile_fail/` is a module of this very file, for a compiler that is told its name. So it
//! is compiled against the dependencies that were built for this test already, without a network. Only the
//! words that matter are compared: how a compiler lays them out is its own affair, and changes with its
//! version.
#![allow(clippy::unwrap_used, clippy::expect_used, unexpected_cfgs)]

use std::path::Path;
use std::process::Command;

#[cfg(compile_fail = "body_without_default")]
#[path = "compile_fail/body_without_default.rs"]
mod body_without_default;

/// The features that this test was built with, so that nothing else is built anew.
fn features() -> String {
    let features = [
        ("axum", cfg!(feature = "axum")),
        ("memory", cfg!(feature = "memory")),
        ("file", cfg!(feature = "file")),
        ("sqlite", cfg!(feature = "sqlite")),
        ("testing", cfg!(feature = "testing")),
    ];
    let chosen = features.iter().filter(|(_, is_on)| *is_on);
    chosen.map(|(name, _)| *name).collect::<Vec<_>>().join(",")
}

/// What the compiler says of a fixture, without its line breaks.
fn errors_of(fixture: &str) -> String {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let output = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "rustc",
            "--offline",
            "--quiet",
            "--color=never",
            "--test=compile_errors",
        ])
        .args(["--no-default-features", "--features", &features()])
        .arg("--target-dir")
        .arg(target)
        .arg("--")
        .arg(format!("--cfg=compile_fail=\"{fixture}\""))
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{fixture} compiles: {errors}");
    errors.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_body_without_default_is_an_error_that_says_what_to_do() {
    let errors = errors_of("body_without_default");
    for words in [
        "cloakroom cannot make an empty response body of type `Unwritten`",
        "the response body of the service inside the SessionLayer has no `Default`",
        "SessionLayer answers 503 with an empty body",
        "map the body to one with a `Default` inside the layer, such as `axum::body::Body`",
        "MapResponseBodyLayer",
    ] {
        assert!(errors.contains(words), "{words:?} is not in {errors}");
    }
}
