//! Keeps other work off the machine while something is measured, by a command that knows how to.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::Result;

/// Filling in more sessions than these takes minutes, for which nobody else has to wait.
const FEW: usize = 100_000;

pub(crate) struct Alone {
    command: Option<String>,
    running: Option<(Child, ChildStdin)>,
}

impl Alone {
    pub(crate) fn by(command: Option<String>) -> Self {
        Self {
            command,
            running: None,
        }
    }

    /// Waits until the machine is free, unless it is. It stays so until [`end`](Self::end). Returns whether
    /// that is from now on.
    pub(crate) async fn begin(&mut self) -> Result<bool> {
        let Some(command) = self.command.as_ref().filter(|_| self.running.is_none()) else {
            return Ok(false);
        };
        let mut child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the command has no standard input and output".into());
        };
        let first = BufReader::new(stdout).lines().next_line().await?;
        first.ok_or("the command ended before it said that the machine is free")?;
        self.running = Some((child, stdin));
        Ok(true)
    }

    pub(crate) async fn end(&mut self) -> Result<()> {
        if let Some((mut child, stdin)) = self.running.take() {
            drop(stdin);
            child.wait().await?;
        }
        Ok(())
    }

    /// Before so many sessions are filled in.
    pub(crate) async fn before_filling(&mut self, count: usize) -> Result<()> {
        if count > FEW {
            self.end().await?;
        }
        Ok(())
    }
}
