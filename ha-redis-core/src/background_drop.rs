//! Freeing what takes long to free, away from the threads that run tasks.

use std::thread;

use redis::Value;

/// So many values take less than a tenth of a millisecond to free.
const FEW: usize = 1_000;

/// Frees values, on a thread of its own if they are many.
pub(crate) fn drop_values(values: Vec<Value>) {
    if are_more_than(&mut FEW.clone(), &values) {
        drop_in_background(values);
    }
}

/// Whether there are more values than are `left`, those inside of others among them.
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

/// Frees `value` on a thread of its own. A reply of a gigabyte may be twenty million values, which take a quarter of a
/// second, and no other task of an executor is to wait for that.
pub(crate) fn drop_in_background<T: Send + 'static>(value: T) {
    let thread = thread::Builder::new().name("ha-redis-drop".to_owned());
    if let Err(error) = thread.spawn(move || drop(value)) {
        // It was freed here.
        tracing::debug!(%error, "no thread to free a large reply on");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::thread::ThreadId;

    use super::*;

    #[test]
    fn many_values_are_told_from_few_wherever_they_are() {
        let are_many = |value: Value| are_more_than(&mut FEW.clone(), &[value]);
        let list = |length| vec![Value::Nil; length];
        let pairs = |length| vec![(Value::Nil, Value::Array(list(1))); length];
        for (length, many) in [(FEW - 1, false), (FEW, true), (1 << 20, true)] {
            assert_eq!(are_many(Value::Array(list(length))), many);
            assert_eq!(are_many(Value::Set(vec![Value::Array(list(length))])), many || length == FEW - 1);
        }
        assert!(!are_many(Value::Map(pairs(FEW / 4))) && are_many(Value::Map(pairs(FEW / 2))));
        let nested = (0..2 * FEW).fold(Value::Nil, |inner, _| Value::Array(vec![inner]));
        assert!(are_many(nested) && !are_many(Value::BulkString(vec![0; 1 << 20])));
        let attributes = Value::Attribute { data: Box::new(Value::Array(list(FEW))), attributes: pairs(1) };
        assert!(are_many(attributes));
    }

    struct TellsWhere(Sender<ThreadId>);

    impl Drop for TellsWhere {
        fn drop(&mut self) {
            self.0.send(thread::current().id()).unwrap();
        }
    }

    #[test]
    fn drop_runs_elsewhere() {
        let (tell, told) = channel();
        drop_in_background(TellsWhere(tell));
        assert_ne!(told.recv().unwrap(), thread::current().id());
    }
}
