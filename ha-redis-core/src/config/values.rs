//! The settings: what each means, and its default.

use std::path::Path;
use std::time::Duration;

use super::password::Password;
use super::{AddressMap, Protocol, RedisConfig};
use crate::address::Address;
use crate::config::{Jitter, RetrySafety};
use crate::replica_choice::ReplicaStrategy;

impl RedisConfig {
    /// Host name or IP address (IPv6 without brackets) of the server in direct mode. Default: `localhost`, as
    /// in the Python library `ha_redis`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port of the server in direct mode. Default: 6379, as in the Python library `ha_redis`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Unix socket of the server, in place of host and port. Default: none (not a setting of the Python
    /// library).
    pub fn unix_socket(&self) -> Option<&Path> {
        self.unix_socket.as_deref()
    }

    /// ACL user name for the Redis servers. Default: none, which is Redis's user `default` (not a setting of the
    /// Python library).
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    /// Password for the Redis servers, in clear: handle with care. Default: none, as in the Python library
    /// `ha_redis`.
    pub fn password(&self) -> Option<&str> {
        self.password.as_ref().map(Password::expose)
    }

    /// Number of the database, in direct and in Sentinel mode. Default: 0, as in the Python library `ha_redis`.
    pub fn db(&self) -> u32 {
        self.db
    }

    /// The version of Redis's protocol that connections speak. Default: [`Protocol::Auto`] (not a setting of the
    /// Python library).
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Most connections to the server at a time, 1 to 10,000. Default: 50, as in the Python library `ha_redis`;
    /// see [`recommended_max_connections`](Self::recommended_max_connections).
    pub fn max_connections(&self) -> usize {
        self.max_connections
    }

    /// How many connections to the master the handles share, 1 to 64. Each handle keeps to one, on which its calls run
    /// in order; clones are spread over all of them. More than one keeps small commands from waiting behind large
    /// values, and pays where the client has cores to spare. Default: 1 (not a setting of the Python library).
    pub fn shared_connections(&self) -> usize {
        self.shared_connections
    }

    /// How long a reply may take, up to 24 hours. Default: 5 s, as in the Python library `ha_redis`.
    pub fn socket_timeout(&self) -> Duration {
        self.socket_timeout
    }

    /// How long connecting may take, up to 24 hours. Default: 2 s, as in the Python library `ha_redis`.
    pub fn socket_connect_timeout(&self) -> Duration {
        self.socket_connect_timeout
    }

    /// How often an idle connection is checked, up to 24 hours; zero turns the checks off. Default: 30 s, as in
    /// the Python library `ha_redis`.
    pub fn health_check_interval(&self) -> Duration {
        self.health_check_interval
    }

    /// Whether Sentinels are asked for the master. Default: false, as in the Python library `ha_redis`.
    pub fn use_sentinel(&self) -> bool {
        self.use_sentinel
    }

    /// The Sentinels to ask first; the others are learned from them. Default: empty, as in the Python library
    /// `ha_redis`.
    pub fn sentinel_hosts(&self) -> &[Address] {
        &self.sentinel_hosts
    }

    /// The name under which the Sentinels watch the master. Default: `mymaster`, as in the Python library
    /// `ha_redis`.
    pub fn sentinel_master_name(&self) -> &str {
        &self.sentinel_master_name
    }

    /// ACL user name for the Sentinels. Default: none (not a setting of the Python library).
    pub fn sentinel_username(&self) -> Option<&str> {
        self.sentinel_username.as_deref()
    }

    /// Password for the Sentinels, in clear: handle with care. [`password`](Self::password) is never sent to
    /// a Sentinel. Default: none (not a setting of the Python library).
    pub fn sentinel_password(&self) -> Option<&str> {
        self.sentinel_password.as_ref().map(Password::expose)
    }

    /// How long a Sentinel's reply may take, up to 24 hours. Default: 1 s (not a setting of the Python library).
    pub fn sentinel_socket_timeout(&self) -> Duration {
        self.sentinel_socket_timeout
    }

    /// How long connecting to a Sentinel may take, up to 24 hours. Default: 1 s (not a setting of the Python
    /// library).
    pub fn sentinel_socket_connect_timeout(&self) -> Duration {
        self.sentinel_socket_connect_timeout
    }

    /// Whether writes need a majority of the Sentinels. With it they fail at once, as not sent, while no more than half
    /// of the known Sentinels answer and act (one in TILT mode does not act): there may then be a newer master
    /// that the client cannot hear of. Reads go on. Default: false (not a setting of the Python library).
    pub fn sentinel_require_majority(&self) -> bool {
        self.sentinel_require_majority
    }

    /// Whether a replica that a Sentinel has selected for promotion is followed as soon as it says that it is
    /// master, up to a second before the Sentinels say so. Default: true (not a setting of the Python library).
    pub fn early_promotion(&self) -> bool {
        self.early_promotion
    }

    /// How long commands are held back at the most while a selected replica is being promoted, up to 24 hours; zero
    /// for not at all, and never for more than half of `failover_wait`. Holds that come to nothing take up no more than
    /// a fifth of the time, whatever Sentinels publish. Default: 2 s (not a setting of the Python library).
    pub fn promotion_hold(&self) -> Duration {
        self.promotion_hold
    }

    /// Where masters, replicas and Sentinels are reached whose announced addresses are of no use here. Default: empty
    /// (not a setting of the Python library).
    pub fn address_map(&self) -> &AddressMap {
        &self.address_map
    }

    /// Whether connections use TLS. Default: false, as in the Python library `ha_redis`.
    pub fn ssl(&self) -> bool {
        self.ssl
    }

    /// PEM file of the certificate authorities that may vouch for the server. Default: none, which is those that
    /// the system trusts, as in the Python library `ha_redis`.
    pub fn ssl_ca_certs(&self) -> Option<&Path> {
        self.ssl_ca_certs.as_deref()
    }

    /// PEM file of the client's certificate. Default: none, as in the Python library `ha_redis`.
    pub fn ssl_certfile(&self) -> Option<&Path> {
        self.ssl_certfile.as_deref()
    }

    /// PEM file of the private key of [`ssl_certfile`](Self::ssl_certfile). Default: none, as in the Python library
    /// `ha_redis`.
    pub fn ssl_keyfile(&self) -> Option<&Path> {
        self.ssl_keyfile.as_deref()
    }

    /// The name that the server's certificate must have. Default: none, which is the host that is connected to (not
    /// a setting of the Python library).
    pub fn ssl_server_name(&self) -> Option<&str> {
        self.ssl_server_name.as_deref()
    }

    /// Whether connections to Sentinels use TLS. Default: as [`ssl`](Self::ssl) (not a setting of the Python
    /// library).
    pub fn sentinel_ssl(&self) -> bool {
        self.sentinel_ssl.unwrap_or(self.ssl)
    }

    /// PEM file of the certificate authorities that may vouch for the Sentinels. Default: as
    /// [`ssl_ca_certs`](Self::ssl_ca_certs) (not a setting of the Python library).
    pub fn sentinel_ssl_ca_certs(&self) -> Option<&Path> {
        self.sentinel_ssl_ca_certs.as_deref().or(self.ssl_ca_certs())
    }

    /// PEM file of the client's certificate for the Sentinels. Default: as [`ssl_certfile`](Self::ssl_certfile) (not
    /// a setting of the Python library).
    pub fn sentinel_ssl_certfile(&self) -> Option<&Path> {
        self.sentinel_ssl_certfile.as_deref().or(self.ssl_certfile())
    }

    /// PEM file of the private key of [`sentinel_ssl_certfile`](Self::sentinel_ssl_certfile). Default: as
    /// [`ssl_keyfile`](Self::ssl_keyfile) (not a setting of the Python library).
    pub fn sentinel_ssl_keyfile(&self) -> Option<&Path> {
        self.sentinel_ssl_keyfile.as_deref().or(self.ssl_keyfile())
    }

    /// The name that the certificates of the Sentinels must have. Default: as
    /// [`ssl_server_name`](Self::ssl_server_name) (not a setting of the Python library).
    pub fn sentinel_ssl_server_name(&self) -> Option<&str> {
        self.sentinel_ssl_server_name.as_deref().or(self.ssl_server_name())
    }

    /// Number of retries after the first attempt, 0 to 1000. Default: 3, as in the Python library `ha_redis`.
    pub fn retry_attempts(&self) -> u32 {
        self.retry_attempts
    }

    /// Delay before the first retry, which doubles for each further one; up to 24 hours. Default: 100 ms, as in
    /// the Python library `ha_redis`.
    pub fn retry_base_delay(&self) -> Duration {
        self.retry_base_delay
    }

    /// The name under which `CLIENT LIST` shows the connections. Default: none (not a setting of the Python
    /// library).
    pub fn client_name(&self) -> Option<&str> {
        self.client_name.as_deref()
    }

    /// How long a call may wait for a usable connection, during a failover for instance; up to 24 hours, zero
    /// for not at all. Default: 10 s (not a setting of the Python library).
    pub fn failover_wait(&self) -> Duration {
        self.failover_wait
    }

    /// How long a call may take from its beginning to its end, with all its waits and attempts; up to 24 hours.
    /// Default: none, so that a call is bounded by its parts: [`failover_wait`](Self::failover_wait) and
    /// [`socket_timeout`](Self::socket_timeout) for each of its attempts, and the delays between them (not a
    /// setting of the Python library).
    pub fn call_timeout(&self) -> Option<Duration> {
        self.call_timeout
    }

    /// How the delays between attempts are spread. Default: [`Jitter::Added`] (not a setting of the Python
    /// library).
    pub fn retry_jitter(&self) -> Jitter {
        self.retry_jitter
    }

    /// How many retries there may be for every hundred replies, once each call that may be in flight
    /// ([`max_in_flight`](Self::max_in_flight)) has been sent again, so that a sick server is not hammered by those who wait for it; 100 for no such limit. Default: 20 (not a setting of
    /// the Python library).
    pub fn retry_budget(&self) -> u32 {
        self.retry_budget
    }

    /// Which commands are sent again although they may have run. Default: [`RetrySafety::Repeatable`] (not a
    /// setting of the Python library).
    pub fn retry_safety(&self) -> RetrySafety {
        self.retry_safety
    }

    /// How many commands a connection may owe replies at a time, 1 to 10,000,000; more calls wait for their turn.
    /// Default: 65,536 (not a setting of the Python library).
    pub fn max_in_flight(&self) -> u32 {
        self.max_in_flight
    }

    /// How many bytes of commands may wait to be written to a connection, 1 KiB to 4 GiB; more calls wait for
    /// their turn. One command may be larger. Default: 16 MiB (not a setting of the Python library).
    pub fn max_in_flight_bytes(&self) -> u64 {
        self.max_in_flight_bytes
    }

    /// How many bytes of memory the reply to one call may take, 1 KiB to 1 TiB; the replies to a pipeline count
    /// together, and a message of a subscriber counts as a reply. What counts is what the values take: 56 bytes for
    /// each element, whatever it is, and for a string its length and some 32 bytes more. A larger reply is read over
    /// without being kept: its caller is told ([`Error::is_reply_too_large`](crate::Error::is_reply_too_large)), and
    /// the connection goes on serving the others. Default: 1 GiB, twice the largest string that Redis sends by
    /// default (not a setting of the Python library).
    pub fn max_reply_bytes(&self) -> u64 {
        self.max_reply_bytes
    }

    /// How deep the aggregates of a reply may nest, 1 to 1024; one that nests deeper is treated as one that is larger
    /// than [`max_reply_bytes`](Self::max_reply_bytes). Default: 128 (not a setting of the Python library).
    pub fn max_reply_depth(&self) -> u32 {
        self.max_reply_depth
    }

    /// How the replica is chosen that a read of [`Client::replica_connection`](crate::Client::replica_connection) goes
    /// to. Default: [`ReplicaStrategy::RoundRobin`] (not a setting of the Python library).
    pub fn replica_strategy(&self) -> ReplicaStrategy {
        self.replica_strategy
    }

    /// The replicas to read from as long as one of them is healthy, those of the own zone for instance, each by its
    /// address (`10.1.0.5:6379`), host (`10.1.0.5`, `redis1.example.com`), domain (`.zone-a.example.com`) or IP network
    /// (`10.1.0.0/16`). They are compared with the addresses that the master or the Sentinels give. Default: empty, so
    /// that all replicas are alike (not a setting of the Python library).
    pub fn preferred_replicas(&self) -> &[String] {
        &self.preferred_replicas
    }

    /// How many bytes of the master's writes a replica may lack and still be read from; about every second that is
    /// found out anew. Default: none, so that a replica is read from however far behind it is (not a setting of the
    /// Python library).
    pub fn replica_max_lag(&self) -> Option<u64> {
        self.replica_max_lag
    }

    /// Whether the master serves reads of [`Client::replica_connection`](crate::Client::replica_connection) while there
    /// is no healthy replica. Without it they wait for one, up to [`failover_wait`](Self::failover_wait). Default: true
    /// (not a setting of the Python library).
    pub fn replica_fallback(&self) -> bool {
        self.replica_fallback
    }

    /// How many bytes of messages a [`PubSub`](crate::PubSub) keeps for its reader, 1 KiB to 4 GiB; beyond that the
    /// oldest are dropped, and the reader is told how many. One message may be larger; each counts with a few hundred
    /// bytes beside its own. Default: 16 MiB (not a setting of the Python library).
    pub fn pubsub_buffer_bytes(&self) -> u64 {
        self.pubsub_buffer_bytes
    }
}
