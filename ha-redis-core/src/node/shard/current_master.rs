//! The server that connections are made to, and who named it.

use std::fmt;

use crate::address::Address;
use crate::conn::link::Generation;
#[cfg(feature = "sentinel")]
use crate::topology::sentinel::Naming;

#[derive(Debug)]
pub(crate) struct CurrentMaster {
    pub(crate) generation: Generation,
    pub(crate) address: Address,
    pub(crate) address_source: AddressSource,
}

/// Who named an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AddressSource {
    /// The host and port, or the socket's path, in the configuration.
    Configuration,
    /// The Sentinels, as the master of this name.
    #[cfg(feature = "sentinel")]
    Sentinels { master_name: String, naming: Naming },
    /// The list of Sentinels in the configuration, or other Sentinels.
    #[cfg(feature = "sentinel")]
    SentinelList,
    /// The Sentinels or the master, as a replica of that master.
    Replicas,
}

impl fmt::Display for AddressSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration => f.write_str("the address in the configuration"),
            #[cfg(feature = "sentinel")]
            Self::Sentinels { master_name, naming } => match naming {
                Naming::Named => write!(f, "which the Sentinels name for `{master_name}`"),
                Naming::Selected => write!(f, "which a Sentinel makes the master `{master_name}`"),
                Naming::Unnamed => write!(f, "which no Sentinel names for `{master_name}` any more"),
                Naming::NamedLast => write!(f, "the last that the Sentinels named for `{master_name}`"),
            },
            #[cfg(feature = "sentinel")]
            Self::SentinelList => f.write_str("a Sentinel"),
            Self::Replicas => f.write_str("a replica of the master"),
        }
    }
}
