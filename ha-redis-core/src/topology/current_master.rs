//! The server that connections are made to, and what named it.

use std::fmt;

use crate::address::Address;
use crate::generation::Generation;

#[derive(Debug)]
pub(crate) struct CurrentMaster {
    pub(crate) generation: Generation,
    pub(crate) address: Address,
    pub(crate) address_source: AddressSource,
}

/// What named an address.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "sentinel"), expect(dead_code, reason = "without Sentinels nobody lists any"))]
pub(crate) enum AddressSource {
    /// The configuration: a host and port, or the path of a socket.
    Configuration,
    /// The Sentinels, for the master of this name.
    Sentinels { master_name: String, naming: Naming },
    /// The list of Sentinels in the configuration, or other Sentinels.
    SentinelList,
    /// A topology source of the application.
    Custom,
    /// The topology source or the master, as a replica of that master.
    Replicas,
}

impl fmt::Display for AddressSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration => f.write_str("the address in the configuration"),
            Self::Sentinels { master_name, naming } => match naming {
                Naming::Named => write!(f, "which the Sentinels name for `{master_name}`"),
                Naming::Selected => write!(f, "which a Sentinel is promoting to the master `{master_name}`"),
                Naming::Unnamed => write!(f, "which no Sentinel names for `{master_name}` any more"),
                Naming::NamedLast => write!(f, "the last that the Sentinels named for `{master_name}`"),
            },
            Self::SentinelList => f.write_str("a Sentinel"),
            Self::Custom => f.write_str("which the topology source names as the master"),
            Self::Replicas => f.write_str("a replica of the master"),
        }
    }
}

/// Whether the Sentinels name the current master; used in errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(feature = "sentinel"), expect(dead_code, reason = "without Sentinels nobody names a master"))]
pub(crate) enum Naming {
    #[default]
    Named,
    /// A Sentinel published that it is being promoted.
    Selected,
    /// They answer, and none of them names it.
    Unnamed,
    /// None of them answers.
    NamedLast,
}
