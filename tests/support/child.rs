//! Tests that need a process of their own run themselves again in one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

const FOLDER: &str = "CLOAKROOM_TEST_CHILD_FOLDER";

/// The folder to work on, if this is the child process of a test.
pub(crate) fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// The command that runs this test again, as the child that works on this folder.
#[allow(dead_code)]
pub(crate) fn again(test: &str, folder: &Path) -> Command {
    let mut command = Command::new(this_binary());
    command.args(arguments(test)).env(FOLDER, folder);
    command
}

/// The same, after lines of shell script that set limits of the process.
#[allow(dead_code)]
pub(crate) fn again_after(script: &str, test: &str, folder: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("{script}\nexec \"$0\" \"$@\""))
        .arg(this_binary())
        .args(arguments(test))
        .env(FOLDER, folder);
    command
}

fn this_binary() -> OsString {
    std::env::current_exe().unwrap().into()
}

fn arguments(test: &str) -> [&str; 4] {
    [test, "--exact", "--nocapture", "--test-threads=1"]
}
