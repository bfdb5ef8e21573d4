//! Programs to copy from. They are the binaries of this package; the library has none of its own.

/// The programs in the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
