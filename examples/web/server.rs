//! Serves an app on the port in `PORT`, until it is told to stop.

use std::env::{self, VarError};
use std::error::Error;
use std::fmt;
use std::io::ErrorKind;

use axum::Router;
use tokio::net::TcpListener;

/// Why the program ends. `main` shows it as a sentence, with its causes.
pub(crate) struct Problem(String);

impl Problem {
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }
}

impl<E: Error> From<E> for Problem {
    fn from(error: E) -> Self {
        let mut said = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Some errors say their cause by themselves.
            if !said.ends_with(&text) {
                said = format!("{said}: {text}");
            }
            cause = error.source();
        }
        Self(said)
    }
}

/// What `main` returns is shown by `Debug`.
impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says where the app is, and serves it until Ctrl-C is pressed, or the process is told to end. Then it answers
/// the requests that it has.
pub(crate) async fn serve(app: Router) -> Result<(), Problem> {
    let told_to_stop = told_to_stop()?;
    let listener = listener().await?;
    println!(
        "listening on http://localhost:{}",
        listener.local_addr()?.port()
    );
    axum::serve(listener, app)
        .with_graceful_shutdown(told_to_stop)
        .await?;
    Ok(())
}

async fn listener() -> Result<TcpListener, Problem> {
    let port = match env::var("PORT") {
        Ok(port) => port.parse().map_err(|_| {
            Problem::new(format!(
                "PORT is {port:?}, and has to be a number from 0 to 65535"
            ))
        })?,
        Err(VarError::NotPresent) => 3000,
        Err(error @ VarError::NotUnicode(_)) => return Err(Problem::new(format!("PORT: {error}"))),
    };
    match TcpListener::bind(("localhost", port)).await {
        Err(error) if error.kind() == ErrorKind::AddrInUse => Err(Problem::new(format!(
            "port {port} is in use: end the other program, or choose another port by PORT"
        ))),
        Err(error) => Err(Problem::new(format!(
            "cannot listen on port {port}: {error}"
        ))),
        Ok(listener) => Ok(listener),
    }
}

/// Ready when Ctrl-C is pressed, or the process gets the signal by which services are stopped; from this call
/// on, so that none is missed.
#[cfg(unix)]
fn told_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
    })
}

/// Ready when Ctrl-C is pressed; from this call on, so that none is missed.
#[cfg(windows)]
fn told_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupted = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        interrupted.recv().await;
    })
}
