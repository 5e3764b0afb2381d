//! The log lines of the crate at `info` and above, with their fields.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// A log line. The message is the field `message`.
#[derive(Clone, Debug, Default)]
pub struct Line(BTreeMap<&'static str, String>);

impl Line {
    /// A field; empty if the line does not have it.
    pub fn field(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

/// All lines since the last call of [`take`](Self::take).
#[derive(Clone, Default)]
pub struct CapturedLog(Arc<Mutex<Vec<Line>>>);

impl CapturedLog {
    /// Captures the lines of this thread until the guards are dropped.
    pub fn start() -> (Self, (tracing::subscriber::DefaultGuard, tracing::Dispatch)) {
        let log = Self::default();
        let subscriber = tracing_subscriber::registry().with(log.clone());
        // With one subscriber alone, a place in the code that another test comes to first is
        // switched off for good, because that test's thread has none.
        let second = tracing::Dispatch::new(tracing_subscriber::registry());
        (log, (tracing::subscriber::set_default(subscriber), second))
    }

    pub fn take(&self) -> Vec<Line> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl<S: Subscriber> Layer<S> for CapturedLog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() <= Level::INFO && metadata.target().starts_with("session_warden") {
            let mut line = Line::default();
            event.record(&mut line);
            self.0.lock().push(line);
        }
    }
}
