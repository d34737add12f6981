//! What is logged and is of no session: how the crate was set up, and what it met there.

use super::{EventKind, metrics};
#[cfg(feature = "axum")]
use crate::id::Handle;
#[cfg(feature = "file")]
use crate::store::StoreError;

/// The target of all that the crate logs, for filters such as `cloakroom=debug`.
pub(super) const TARGET: &str = "cloakroom";

/// An error and its sources, as one line. Some errors say their source by themselves, as sqlx's do: then it is
/// not said again.
pub(super) struct Chain<'a>(pub(super) &'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            let text = error.to_string();
            if !said.ends_with(&text) {
                write!(f, ": {text}")?;
            }
            said = text;
            source = error.source();
        }
        Ok(())
    }
}

/// The app's callback panicked, at this event.
///
/// It may happen with every event, so it is told at the first time and at each doubling. Not with what it
/// panicked with, which could be data of a session.
pub(super) fn callback_panicked(at: EventKind, panics: u64) {
    metrics::callback_panicked();
    if panics.is_power_of_two() {
        tracing::error!(
            target: TARGET,
            at = at.name(),
            panics,
            "the callback of on_event panicked; nothing else is changed by that"
        );
    }
}

/// A layer lies around itself, or around another with the same cookie or header.
pub(crate) fn layered_twice(cookie: &str) {
    tracing::warn!(
        target: TARGET,
        cookie,
        "a SessionLayer lies inside another with the same cookie or header: only the outer one is used"
    );
}

/// Somebody is logged in whose user id is not of the type that a guard asks for.
#[cfg(feature = "axum")]
pub(crate) fn user_id_unreadable(handle: Option<&Handle>, wanted: &'static str) {
    tracing::error!(
        target: TARGET,
        handle = handle.map(tracing::field::display),
        wanted,
        "the user id of a session cannot be read as the type that a guard asks for"
    );
}

/// A guard lies around the page that it leads to.
#[cfg(feature = "axum")]
pub(crate) fn login_page_guarded(path: &str) {
    tracing::error!(
        target: TARGET,
        path,
        "a guard is on the login page itself, so that nobody can log in: take the guard off it"
    );
}

/// The layer's cookie is sent over plain connections, too.
pub(crate) fn insecure_cookie(cookie: &str) {
    tracing::warn!(
        target: TARGET,
        cookie,
        "the session cookie is not Secure: insecure_for_development is for development only"
    );
}

/// The memory store was full, and gave up the session of a visitor who is not logged in.
///
/// It may happen with every request, so it is told at the first time and at each doubling.
#[cfg(feature = "memory")]
pub(crate) fn anonymous_session_evicted(evictions: u64, max_records: usize) {
    if evictions.is_power_of_two() {
        tracing::warn!(
            target: TARGET,
            evictions,
            max_records,
            "the memory store is full and evicts sessions of visitors who are not logged in"
        );
    }
}

/// A sweep went past records that it cannot read.
#[cfg(feature = "file")]
pub(crate) fn records_unreadable(records: usize, example: &StoreError) {
    tracing::warn!(
        target: TARGET,
        records,
        example = %Chain(example),
        "session records cannot be read; they were left in place"
    );
}

/// The folder of the file store was there already, with rights that its own directories do not have.
#[cfg(feature = "file")]
pub(crate) fn folder_writable_by_others(path: &std::path::Path) {
    tracing::warn!(
        target: TARGET,
        path = %path.display(),
        "the folder of the session files can be written by others than its owner, who can so delete \
         sessions"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl std::fmt::Display for Layer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Layer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            self.1.as_deref().map(|layer| layer as _)
        }
    }

    fn chain(texts: &[&'static str]) -> Layer {
        let (first, rest) = texts.split_first().unwrap();
        Layer(first, (!rest.is_empty()).then(|| Box::new(chain(rest))))
    }

    #[test]
    fn each_cause_of_an_error_is_said_once() {
        for (texts, line) in [
            (&["a"][..], "a"),
            (&["a", "b", "c"], "a: b: c"),
            (&["a", "driver: b", "b"], "a: driver: b"),
            (&["a", "driver: b", "b", "c"], "a: driver: b: c"),
        ] {
            assert_eq!(Chain(&chain(texts)).to_string(), line);
        }
    }
}
