//! Settings whose values are words.

/// A text that names none of the choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is none of the words that are allowed")]
pub struct ParseChoiceError;
