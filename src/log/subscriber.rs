//! The end of every `tracing` event: one line in an error log.

use std::fmt::{self, Write};
use std::sync::Once;

use tracing::field::{Field, Visit};
use tracing::span;

use super::format::Frame;
use super::{CONTEXT, Level};

/// Sends the events of this process here; called once before anything is logged.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Only a second subscriber could make it fail, and there is none.
        let _ = tracing::subscriber::set_global_default(ErrorLogSubscriber);
    });
}

/// Writes events by the context that [`super`] set for them. Spans are not used.
struct ErrorLogSubscriber;

#[derive(Default)]
struct Fields {
    level: u64,
    ah: String,
    message: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        }
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "ap_level" {
            self.level = value;
        }
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "ah" {
            value.clone_into(&mut self.ah);
        }
    }
}

impl tracing::Subscriber for ErrorLogSubscriber {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        // Dependencies (mio) emit events too; they have no place in this log.
        metadata.is_event() && metadata.target().starts_with("httpd")
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Some(level) = Level::from_number(fields.level) else { return };
        let context = CONTEXT.with(|cell| cell.try_borrow().map(|c| c.clone()).unwrap_or_default());
        let mut message = String::with_capacity(fields.message.len() + 10);
        if !fields.ah.is_empty() {
            message.push_str(&fields.ah);
            message.push_str(": ");
        }
        message.push_str(&fields.message);
        if context.startup {
            let line = format!("{message}\n");
            match &context.log {
                Some(log) => log.write(level, &line),
                None => super::error_log::write_stderr(&line),
            }
            return;
        }
        let put = |frame: &Frame, message: &str| {
            let line = frame.line(message);
            match &context.log {
                Some(log) => log.write(level, &line),
                None => super::error_log::write_stderr(&line),
            }
        };
        for frame in &context.before {
            put(frame, "");
        }
        put(&context.frame, &message);
    }
}
