//! Looks for a text in all log output, at every level.

use std::fmt::Debug;
use std::sync::{Mutex, Once, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// The watched texts, and the fields in which each was found.
static WATCHED: Mutex<Vec<(&str, Vec<String>)>> = Mutex::new(Vec::new());

/// Watches for `word` from now on. Tests of one process share the log, so each test uses a text of its own.
pub(super) fn watch(word: &'static str) {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| tracing::subscriber::set_global_default(Reader).unwrap());
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner).push((word, Vec::new()));
}

/// Returns the fields in which the text was found.
pub(super) fn found(word: &str) -> Vec<String> {
    let watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    watched.iter().filter(|(other, _)| *other == word).flat_map(|(_, found)| found.clone()).collect()
}

struct Reader;

impl Visit for Reader {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{} = {value:?}", field.name());
        for (word, found) in WATCHED.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            // A host name is the same in lower case.
            if text.to_lowercase().contains(&word.to_lowercase()) && found.len() < 20 {
                found.push(text.clone());
            }
        }
    }
}

impl Subscriber for Reader {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut Reader);
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Reader);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Reader);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
