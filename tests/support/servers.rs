//! Servers that `tests/with_servers.sh` starts, or that a user points the tests at.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Mutex;

/// The value of this variable, which says where a server is.
///
/// `None` if there is none: then the test is left out, and its suite says so; unless everything is to be
/// tested.
#[allow(dead_code)]
pub(crate) fn url(variable: &str) -> Option<String> {
    let url = std::env::var(variable).ok();
    if url.is_none() {
        left_out(&format!("set {variable}"));
    }
    url
}

/// Whether this program is there, for servers that a test starts by itself.
#[allow(dead_code)]
pub(crate) fn installed(program: &str) -> bool {
    let is_there = std::process::Command::new(program)
        .arg("--version")
        .output()
        .is_ok();
    if !is_there {
        left_out(&format!("install {program}"));
    }
    is_there
}

/// Fails where everything is to be tested. Otherwise says what is left out, once for each way to mend it.
fn left_out(mend: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if std::env::var_os("CLOAKROOM_TEST_EVERYTHING").is_some() {
        panic!("a server is missing: run tests/all.sh, which starts it; or {mend}");
    }
    if SAID.lock().unwrap().insert(mend.to_owned()) {
        let line = format!(
            "left out: tests of {} ({mend}, or run tests/all.sh)\n",
            env!("CARGO_CRATE_NAME")
        );
        // By `write`, since what a test that succeeds prints is not shown.
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
}
