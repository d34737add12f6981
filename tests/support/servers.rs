//! Servers that `tests/with_servers.sh` starts, or that a user points the tests at.

/// The value of this variable, which says where a server is.
///
/// `None` if there is none: then the test is left out, and says so; unless everything is to be tested.
#[allow(dead_code)]
pub(crate) fn url(variable: &str) -> Option<String> {
    match std::env::var(variable) {
        Ok(url) => Some(url),
        Err(_) if std::env::var_os("CLOAKROOM_TEST_EVERYTHING").is_some() => {
            panic!("{variable} is not set: run tests/all.sh, which starts the servers")
        }
        Err(_) => {
            let test = std::thread::current();
            let test = test.name().unwrap_or("a test");
            eprintln!("left out: {test} (set {variable}, or run tests/all.sh)");
            None
        }
    }
}

/// Whether this program is there, for servers that a test starts by itself.
#[allow(dead_code)]
pub(crate) fn installed(program: &str) -> bool {
    let is_there = std::process::Command::new(program)
        .arg("--version")
        .output()
        .is_ok();
    if !is_there && std::env::var_os("CLOAKROOM_TEST_EVERYTHING").is_some() {
        panic!("{program} is not installed: run tests/all.sh, which installs it")
    }
    if !is_there {
        let test = std::thread::current();
        let test = test.name().unwrap_or("a test");
        eprintln!("left out: {test} (install {program}, or run tests/all.sh)");
    }
    is_there
}
