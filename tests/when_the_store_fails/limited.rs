//! Tests in a process of their own that has limits.

use std::process::Command;

use super::child;

/// A write that the limit on the size of files forbids is to fail, as on a full disk, and not to end the process.
pub(super) const WITHOUT_SIGNALS: &str = "trap '' XFSZ";

/// Runs this test again in a process that a shell has set limits to.
pub(super) fn again(limits: &str, test: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut command: Command = child::again_after(limits, test, &folder.path().join("sessions"));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text} {output:?}"
    );
}

pub(super) fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

/// How much this process can write into files from now on.
pub(super) enum Room {
    None,
    Plenty,
}

impl Room {
    pub(super) fn for_files(self) {
        let limit = match self {
            Self::None => "--fsize=0:",
            Self::Plenty => "--fsize=unlimited:",
        };
        let process = std::process::id().to_string();
        let status = Command::new("prlimit")
            .args(["--pid", &process, limit])
            .status();
        assert!(status.unwrap().success());
    }
}
