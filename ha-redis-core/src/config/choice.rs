//! The error of settings that have a fixed set of values.

/// A text that is none of the allowed values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one of the allowed values")]
pub struct ParseChoiceError;
