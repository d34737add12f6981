//! Everything that is logged, at every level, by every crate, spans included.
#![allow(dead_code)]

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Event, Metadata, Subscriber};

/// What was logged since it was made, a line for each event and span: `LEVEL target message name=value …`.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Captured>);

#[derive(Default)]
struct Captured {
    lines: Mutex<Vec<String>>,
    spans: AtomicU64,
}

impl Log {
    /// Captures what this thread logs, until the guard is dropped.
    pub(crate) fn of_this_thread() -> (Self, DefaultGuard) {
        // Where there is but one subscriber, tracing asks that of the thread which comes to an event first whether
        // anybody wants it, ever. In a test on another thread that is nobody.
        static ANOTHER: LazyLock<Dispatch> =
            LazyLock::new(|| Dispatch::new(Capture(Log::default())));
        LazyLock::force(&ANOTHER);
        let log = Self::default();
        let guard = tracing::subscriber::set_default(Capture(log.clone()));
        (log, guard)
    }

    /// Captures what any thread logs, from now on; once in a process.
    pub(crate) fn of_this_process() -> Self {
        let log = Self::default();
        tracing::subscriber::set_global_default(Capture(log.clone())).unwrap();
        log
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lines.lock().unwrap().clone()
    }

    /// The lines of cloakroom that hold this text.
    pub(crate) fn having(&self, text: &str) -> Vec<String> {
        let lines = self.lines().into_iter();
        lines
            .filter(|line| line.contains(" cloakroom") && line.contains(text))
            .collect()
    }

    /// The one line of cloakroom that holds this text.
    #[track_caller]
    pub(crate) fn one(&self, text: &str) -> String {
        let having = self.having(text);
        match &having[..] {
            [line] => line.clone(),
            _ => panic!(
                "not one line has {text:?} but {having:?}; of {:#?}",
                self.lines()
            ),
        }
    }

    pub(crate) fn clear(&self) {
        self.0.lines.lock().unwrap().clear();
    }

    fn push(&self, line: String) {
        self.0.lines.lock().unwrap().push(line);
    }
}

struct Capture(Log);

impl Subscriber for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut text = Text::default();
        attributes.record(&mut text);
        let metadata = attributes.metadata();
        self.0
            .push(line(metadata, &format!("span {}", metadata.name()), &text));
        Id::from_u64(1 + self.0.0.spans.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &Id, record: &Record<'_>) {
        let mut text = Text::default();
        record.record(&mut text);
        self.0.push(format!("RECORD{}", text.fields));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        self.0.push(line(event.metadata(), &text.message, &text));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn line(metadata: &Metadata<'_>, message: &str, text: &Text) -> String {
    format!(
        "{} {} {message}{}",
        metadata.level(),
        metadata.target(),
        text.fields
    )
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        }
        .unwrap();
    }
}
