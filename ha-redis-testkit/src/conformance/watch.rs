//! Looks for a text in all log output, at every level, or records all of it.

use std::fmt::Debug;
use std::sync::{Mutex, Once, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// The watched texts, and the fields in which each was found.
static WATCHED: Mutex<Vec<(&str, Vec<String>)>> = Mutex::new(Vec::new());

/// All fields that were logged since the first [`record`]: the target of each, and its text.
static RECORDED: Mutex<Option<Vec<(&'static str, String)>>> = Mutex::new(None);

/// Records all log output from now on, that of other tests of the process included.
pub(super) fn record() {
    install();
    RECORDED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default();
}

/// Returns what was recorded.
pub(super) fn recorded() -> Vec<(&'static str, String)> {
    RECORDED.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default()
}

/// Watches for `word` from now on. Tests of one process share the log, so each test uses a text of its own.
pub(super) fn watch(word: &'static str) {
    install();
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner).push((word, Vec::new()));
}

fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| tracing::subscriber::set_global_default(Reader).unwrap());
}

/// Returns the fields in which the text was found.
pub(super) fn found(word: &str) -> Vec<String> {
    let watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    watched.iter().filter(|(other, _)| *other == word).flat_map(|(_, found)| found.clone()).collect()
}

struct Reader;

/// Reads the fields of a span or an event with this target.
struct Fields(&'static str);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{} = {value:?}", field.name());
        for (word, found) in WATCHED.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            // A host name is the same in lower case.
            if text.to_lowercase().contains(&word.to_lowercase()) && found.len() < 20 {
                found.push(text.clone());
            }
        }
        let mut recorded = RECORDED.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.iter_mut().for_each(|all| all.push((self.0, text.clone())));
    }
}

impl Subscriber for Reader {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut Fields(span.metadata().target()));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Fields("a span"));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Fields(event.metadata().target()));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
