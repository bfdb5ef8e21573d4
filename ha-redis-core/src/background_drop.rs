//! Frees large values away from the threads that run tasks.

use std::thread;

use redis::Value;

/// This many values take less than a tenth of a millisecond to free.
const MAX_INLINE: usize = 1_000;

/// Frees values, in a separate thread if they are many.
pub(crate) fn drop_values(values: Vec<Value>) {
    if are_more_than(&mut MAX_INLINE.clone(), &values) {
        drop_in_background(values);
    }
}

/// Returns true if there are more values than `left`, including nested ones.
fn are_more_than(left: &mut usize, values: &[Value]) -> bool {
    values.iter().any(|value| is_more_than(left, value))
}

fn is_more_than(left: &mut usize, value: &Value) -> bool {
    let Some(fewer) = left.checked_sub(1) else { return true };
    *left = fewer;
    let mut pairs = |pairs: &[(Value, Value)]| {
        pairs.iter().any(|(key, value)| is_more_than(left, key) || is_more_than(left, value))
    };
    match value {
        Value::Array(values) | Value::Set(values) | Value::Push { data: values, .. } => {
            are_more_than(left, values)
        }
        Value::Map(entries) => pairs(entries),
        Value::Attribute { data, attributes } => pairs(attributes) || is_more_than(left, data),
        _ => false,
    }
}

/// Frees `value` in a separate thread. A reply of a gigabyte may be twenty million values, which take a quarter of a
/// second; other tasks of the executor must not wait for that.
pub(crate) fn drop_in_background<T: Send + 'static>(value: T) {
    let thread = thread::Builder::new().name("ha-redis-drop".to_owned());
    if let Err(error) = thread.spawn(move || drop(value)) {
        // The failed spawn has dropped it here.
        tracing::debug!(%error, "cannot start a thread to free a large reply; freed it in the task");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::thread::ThreadId;

    use super::*;

    #[test]
    fn nested_values_are_counted() {
        let are_many = |value: Value| are_more_than(&mut MAX_INLINE.clone(), &[value]);
        let list = |length| vec![Value::Nil; length];
        let pairs = |length| vec![(Value::Nil, Value::Array(list(1))); length];
        for (length, many) in [(MAX_INLINE - 1, false), (MAX_INLINE, true), (1 << 20, true)] {
            assert_eq!(are_many(Value::Array(list(length))), many);
            assert_eq!(
                are_many(Value::Set(vec![Value::Array(list(length))])),
                many || length == MAX_INLINE - 1
            );
        }
        assert!(!are_many(Value::Map(pairs(MAX_INLINE / 4))) && are_many(Value::Map(pairs(MAX_INLINE / 2))));
        let nested = (0..2 * MAX_INLINE).fold(Value::Nil, |inner, _| Value::Array(vec![inner]));
        assert!(are_many(nested) && !are_many(Value::BulkString(vec![0; 1 << 20])));
        let attributes =
            Value::Attribute { data: Box::new(Value::Array(list(MAX_INLINE))), attributes: pairs(1) };
        assert!(are_many(attributes));
    }

    struct ReportThread(Sender<ThreadId>);

    impl Drop for ReportThread {
        fn drop(&mut self) {
            self.0.send(thread::current().id()).unwrap();
        }
    }

    #[test]
    fn drop_runs_in_another_thread() {
        let (sender, receiver) = channel();
        drop_in_background(ReportThread(sender));
        assert_ne!(receiver.recv().unwrap(), thread::current().id());
    }
}
