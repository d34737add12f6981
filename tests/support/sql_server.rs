//! A server of a test's own, which it may kill.
#![allow(dead_code)]

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Engine {
    Postgres,
    MariaDb,
}

/// Gone when it is dropped, with its data.
pub(crate) struct Server {
    engine: Engine,
    folder: TempDir,
    pub(crate) port: u16,
    running: Option<Child>,
    /// Shell that sets limits of its process.
    limits: String,
    options: Vec<String>,
}

impl Server {
    /// With no database yet but the ones that every server has.
    ///
    /// `None` where there is none to test with: where the tests run without servers.
    pub(crate) fn start(engine: Engine) -> Option<Self> {
        Self::start_with(engine, "", &[])
    }

    /// The same, after this shell, and with these options of the command line besides the usual ones.
    pub(crate) fn start_with(engine: Engine, limits: &str, options: &[&str]) -> Option<Self> {
        crate::servers::url(match engine {
            Engine::Postgres => "CLOAKROOM_TEST_POSTGRES_URL",
            Engine::MariaDb => "CLOAKROOM_TEST_MYSQL_URL",
        })?;
        let folder = tempfile::tempdir().unwrap();
        // The servers refuse to run as root, and other users look into it.
        let everyone = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), everyone).unwrap();
        let make = match engine {
            Engine::Postgres => "make_postgres",
            Engine::MariaDb => "make_mariadb",
        };
        let made = script(&format!("{make} \"$1\" >&2; free_port"), folder.path())
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{log}");
        let port = String::from_utf8(made.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let mut server = Self {
            engine,
            folder,
            port,
            running: None,
            limits: limits.to_owned(),
            options: options.iter().map(|&option| option.to_owned()).collect(),
        };
        server.restart();
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        let port = self.port;
        match self.engine {
            Engine::Postgres => format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            Engine::MariaDb => format!("mysql://root@127.0.0.1:{port}/mysql"),
        }
    }

    /// Starts it on the same port with the same data. It answers in a while.
    ///
    /// It syncs as it does by default, so that what it acknowledged is written.
    pub(crate) fn restart(&mut self) {
        let run = match self.engine {
            Engine::Postgres => "run_postgres",
            Engine::MariaDb => "run_mariadb",
        };
        // A server that still finds traces of the one that was killed gives up: then another one tries.
        // And all of it ends with the test program, by a signal, too: then the pipe is closed.
        let run = format!(
            "{} {{ cat; kill -KILL 0; }} <&0 & while :; do {run} \"$1\" {} {} </dev/null || true; sleep 0.2; done",
            self.limits,
            self.port,
            self.options.join(" "),
        );
        let child = script(&run, self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // So that all that it starts can be killed at once.
            .process_group(0)
            .spawn()
            .unwrap();
        self.running = Some(child);
    }

    /// As a crash of the machine does, for all but what the operating system has not written yet.
    pub(crate) fn kill(&mut self) {
        let Some(mut child) = self.running.take() else {
            return;
        };
        let killed = Command::new("kill")
            .args(["-KILL", "--", &format!("-{}", child.id())])
            .status()
            .unwrap();
        assert!(killed.success());
        child.wait().unwrap();
    }

    /// Stops it, and makes it a replica from its next start on.
    pub(crate) fn become_replica(&mut self) {
        self.kill();
        let signal = self.folder.path().join("data/db/standby.signal");
        std::fs::write(&signal, "").unwrap();
        let everyone = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&signal, everyone).unwrap();
        self.restart();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a line of shell with the functions that start servers; `$1` is the folder for the data.
fn script(line: &str, folder: &Path) -> Command {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let source = format!(
        "source '{0}/with_servers.sh'; source '{0}/servers/postgres.sh'; source '{0}/servers/mariadb.sh'; {line}",
        tests.display()
    );
    let mut command = Command::new("bash");
    command
        .args(["-c", &source, "bash"])
        .arg(folder.join("data"));
    command
}
