//! The form of a setting's values.

/// The form of the values of a [`Setting`](super::Setting), for schemas and for loaders of typed files.
///
/// Every value has a text, in which [`LayeredBuilder::set`](crate::config::LayeredBuilder::set) reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SettingKind {
    /// Any text that [`Setting::allowed`](super::Setting::allowed) describes.
    Text,
    /// The path of a file that the client reads when it connects.
    File,
    /// A whole number.
    Number {
        /// The smallest number that is allowed.
        min: u64,
        /// The largest number that is allowed.
        max: u64,
    },
    /// A time of up to 24 hours: seconds as a decimal number, or a number with one of the units `d`, `h`, `m`, `s`,
    /// `ms`, `us`, `ns`.
    Duration {
        /// Whether a time of 0 is allowed.
        zero: bool,
    },
    /// True or false. The words `yes`, `no`, `on`, `off`, `1` and `0` are read too.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Texts, separated by commas.
    List,
    /// Entries `from=to`, separated by commas.
    Map,
}
