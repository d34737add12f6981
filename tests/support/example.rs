//! An example as a running process.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How long an example may take until it listens.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that ends with this value, and so when the test fails as well.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // They fail only where the process has ended by itself.
        let _: std::io::Result<()> = self.0.kill();
        let _: std::io::Result<_> = self.0.wait();
    }
}

/// An example that listens on a port of localhost.
pub(crate) struct Example {
    pub(crate) port: u16,
    command: Command,
    process: Option<Running>,
}

impl Example {
    /// Starts an example on a free port.
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdout(Stdio::null());
        // Between the choice and the start, another program may take the port.
        for _ in 0..5 {
            let port = free_port();
            if let Some(process) = listening(&mut command, port) {
                return Self {
                    port,
                    command,
                    process: Some(process),
                };
            }
        }
        panic!("{command:?} ended five times before it listened");
    }

    /// Kills it, and starts it again on the same port.
    #[allow(dead_code)]
    pub(crate) fn restart(&mut self) {
        self.process = None;
        self.process = listening(&mut self.command, self.port);
        assert!(
            self.process.is_some(),
            "{:?} ended before it listened",
            self.command
        );
    }
}

/// The command that runs an example.
///
/// Cargo has built it: a plain `cargo test` does so before it runs any test.
pub(crate) fn command(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let program = test
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples")
        .join(name)
        .with_extension(std::env::consts::EXE_EXTENSION);
    assert!(
        program.exists(),
        "{} is not there: run `cargo build --examples` first, or `cargo test` without choosing targets",
        program.display()
    );
    Command::new(program)
}

/// The command that runs the accounts, with its users and sessions in this file.
#[allow(dead_code)]
pub(crate) fn accounts(database: &Path) -> Command {
    let mut command = command("accounts");
    command.env("CLOAKROOM_DB", database);
    command
}

/// Checks that a program ends by itself with an error that says this, and does not panic.
#[allow(dead_code)]
#[track_caller]
pub(crate) fn assert_ends_with(command: &mut Command, sentence: &str) {
    let output = command.output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains(&format!("Error: {sentence}")),
        "{sentence:?} is not in {errors}"
    );
}

/// A port of localhost on which nobody listens. In this process none comes again among 8,000: of two tests that began
/// with the same port, one would talk to the other's server, until that ends.
pub(crate) fn free_port() -> u16 {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    // Below those that systems give to clients: one that asks whether a server listens could be given that very port,
    // and would then be connected to itself. And below 20,000, from where the servers of stores have theirs.
    const FIRST: u16 = 10_240;
    // A power of two, so that no port comes again early where the counter overflows.
    const COUNT: u16 = 8_192;
    let next = NEXT.get_or_init(|| AtomicU16::new(rand::random()));
    for _ in 0..COUNT {
        let port = FIRST + next.fetch_add(1, Ordering::Relaxed) % COUNT;
        if TcpListener::bind(("localhost", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

/// Starts a command, and waits until it listens on this port; `None` if it ends before.
#[allow(dead_code)]
pub(crate) fn listening(command: &mut Command, port: u16) -> Option<Running> {
    let started = Instant::now();
    let child = command.env("PORT", port.to_string()).spawn().unwrap();
    let mut process = Running(child);
    loop {
        let connected = TcpStream::connect(("localhost", port)).is_ok();
        if process.0.try_wait().unwrap().is_some() {
            return None;
        }
        if connected {
            return Some(process);
        }
        assert!(
            started.elapsed() < PATIENCE,
            "{command:?} does not listen on port {port}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
