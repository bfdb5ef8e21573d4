//! The settings: what each means, and its default.

use std::path::Path;
use std::time::Duration;

use super::password::Password;
use super::{AddressMap, Protocol, RedisConfig, TlsVersion};
use crate::address::Address;
use crate::config::{Jitter, RetrySafety};
use crate::replica_choice::ReplicaStrategy;

impl RedisConfig {
    /// Returns the host name or IP address (IPv6 without brackets) of the server in direct mode. Default:
    /// `localhost`, as in the Python library `ha_redis`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the TCP port of the server in direct mode. Default: 6379, as in the Python library `ha_redis`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the Unix socket of the server, instead of host and port. Default: none (not a setting of the Python
    /// library).
    pub fn unix_socket(&self) -> Option<&Path> {
        self.unix_socket.as_deref()
    }

    /// Returns the ACL user name for the Redis servers. Default: none, which is Redis's user `default` (not a setting
    /// of the Python library).
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    /// Returns the password for the Redis servers, in clear: handle with care. Default: none, as in the Python library
    /// `ha_redis`.
    pub fn password(&self) -> Option<&str> {
        self.password.as_ref().map(Password::expose)
    }

    /// Returns the number of the database, in direct and in Sentinel mode. Default: 0, as in the Python library
    /// `ha_redis`.
    pub fn db(&self) -> u32 {
        self.db
    }

    /// Returns the version of the Redis protocol that connections use. Default: [`Protocol::Auto`] (not a setting of
    /// the Python library).
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Returns the maximum number of connections to the server, 1 to 10,000. Default: 50, as in the Python library
    /// `ha_redis`; see [`recommended_max_connections`](Self::recommended_max_connections).
    pub fn max_connections(&self) -> usize {
        self.max_connections
    }

    /// Returns the number of connections to the master that the handles share, 1 to 64. Each handle stays on one, on
    /// which its calls run in order; clones are spread over all of them. With more than one, small commands do not
    /// wait behind large values; this helps if the client has spare cores. Default: 1 (not a setting of the Python
    /// library).
    pub fn shared_connections(&self) -> usize {
        self.shared_connections
    }

    /// Returns how long a connection may make no progress while replies are pending, up to 24 hours. Default: 5 s, as in the Python library `ha_redis`.
    pub fn socket_timeout(&self) -> Duration {
        self.socket_timeout
    }

    /// Returns how long connecting may take, up to 24 hours. Default: 2 s, as in the Python library `ha_redis`.
    pub fn socket_connect_timeout(&self) -> Duration {
        self.socket_connect_timeout
    }

    /// Returns how often an idle connection is checked, up to 24 hours; zero turns the checks off. Default: 30 s, as
    /// in the Python library `ha_redis`.
    pub fn health_check_interval(&self) -> Duration {
        self.health_check_interval
    }

    /// Returns whether Sentinels are queried for the master. Default: false, as in the Python library `ha_redis`.
    pub fn use_sentinel(&self) -> bool {
        self.use_sentinel
    }

    /// Returns the Sentinels to query first; the others are discovered through them. Default: empty, as in the Python
    /// library `ha_redis`.
    pub fn sentinel_hosts(&self) -> &[Address] {
        &self.sentinel_hosts
    }

    /// Returns the name under which the Sentinels watch the master. Default: `mymaster`, as in the Python library
    /// `ha_redis`.
    pub fn sentinel_master_name(&self) -> &str {
        &self.sentinel_master_name
    }

    /// Returns the ACL user name for the Sentinels. Default: none (not a setting of the Python library).
    pub fn sentinel_username(&self) -> Option<&str> {
        self.sentinel_username.as_deref()
    }

    /// Returns the password for the Sentinels, in clear: handle with care. [`password`](Self::password) is never sent
    /// to a Sentinel. Default: none (not a setting of the Python library).
    pub fn sentinel_password(&self) -> Option<&str> {
        self.sentinel_password.as_ref().map(Password::expose)
    }

    /// Returns how long a Sentinel's reply may take, up to 24 hours. Default: 1 s (not a setting of the Python
    /// library).
    pub fn sentinel_socket_timeout(&self) -> Duration {
        self.sentinel_socket_timeout
    }

    /// Returns how long connecting to a Sentinel may take, up to 24 hours. Default: 1 s (not a setting of the Python
    /// library).
    pub fn sentinel_socket_connect_timeout(&self) -> Duration {
        self.sentinel_socket_connect_timeout
    }

    /// Returns whether writes need a majority of the Sentinels. If so, they fail immediately, as not sent, unless
    /// more than half of the known Sentinels reply and are not in TILT mode: otherwise there may be a newer master
    /// that the client does not know of. Reads continue. Default: false (not a setting of the Python
    /// library).
    pub fn sentinel_require_majority(&self) -> bool {
        self.sentinel_require_majority
    }

    /// Returns whether the client switches to a replica that a Sentinel has selected for promotion as soon as the
    /// replica reports that it is master, up to a second before the Sentinels do. Default: true (not a setting of the
    /// Python library).
    pub fn early_promotion(&self) -> bool {
        self.early_promotion
    }

    /// Returns the maximum time that commands are held back while a selected replica is being promoted, up to 24
    /// hours; zero turns the hold off. A hold never takes more than half of `failover_wait`. Holds without a promotion take up
    /// no more than a fifth of the time, whatever Sentinels publish. Default: 2 s (not a setting of the Python
    /// library).
    pub fn promotion_hold(&self) -> Duration {
        self.promotion_hold
    }

    /// Returns where masters, replicas and Sentinels are reached if their announced addresses cannot be used here.
    /// Default: empty (not a setting of the Python library).
    pub fn address_map(&self) -> &AddressMap {
        &self.address_map
    }

    /// Returns whether connections use TLS. Default: false, as in the Python library `ha_redis`.
    pub fn ssl(&self) -> bool {
        self.ssl
    }

    /// Returns the PEM file of the certificate authorities that are trusted for the server. Default: none, which
    /// means those that the system trusts, as in the Python library `ha_redis`.
    pub fn ssl_ca_certs(&self) -> Option<&Path> {
        self.ssl_ca_certs.as_deref()
    }

    /// Returns the PEM file of the client's certificate. Default: none, as in the Python library `ha_redis`.
    pub fn ssl_certfile(&self) -> Option<&Path> {
        self.ssl_certfile.as_deref()
    }

    /// Returns the PEM file of the private key of [`ssl_certfile`](Self::ssl_certfile). Default: none, as in the
    /// Python library `ha_redis`.
    pub fn ssl_keyfile(&self) -> Option<&Path> {
        self.ssl_keyfile.as_deref()
    }

    /// Returns the password of the encrypted key in [`ssl_keyfile`](Self::ssl_keyfile), in clear: handle with care.
    /// Default: none, which means that the key is not encrypted (not a setting of the Python library; redis-py has it
    /// under the same name).
    pub fn ssl_password(&self) -> Option<&str> {
        self.ssl_password.as_ref().map(Password::expose)
    }

    /// Returns the name that the server's certificate must have. Default: none, which means the host that is
    /// connected to (not a setting of the Python library).
    pub fn ssl_server_name(&self) -> Option<&str> {
        self.ssl_server_name.as_deref()
    }

    /// Returns the lowest version of TLS that the client speaks. Default: [`TlsVersion::Tls12`] (not a setting of the
    /// Python library; redis-py has it under the same name).
    pub fn ssl_min_version(&self) -> TlsVersion {
        self.ssl_min_version
    }

    /// Returns whether the client accepts any certificate of a server: an expired one, one for another name, or one
    /// that an attacker has made. **Whoever controls the network can then read and change everything**, the password
    /// included. It is meant for development, and logged as a warning by every client. Connections are encrypted all
    /// the same. Default: false (not a setting of the Python library).
    pub fn ssl_danger_accept_invalid_certs(&self) -> bool {
        self.ssl_danger_accept_invalid_certs
    }

    /// Returns whether connections to Sentinels use TLS. Default: as [`ssl`](Self::ssl) (not a setting of the Python
    /// library).
    pub fn sentinel_ssl(&self) -> bool {
        self.sentinel_ssl.unwrap_or(self.ssl)
    }

    /// Returns the setting `sentinel_ssl` without its default.
    #[cfg(all(feature = "__tls", feature = "sentinel"))]
    pub(crate) fn sentinel_ssl_if_set(&self) -> Option<bool> {
        self.sentinel_ssl
    }

    /// Returns the PEM file of the certificate authorities that are trusted for the Sentinels. Default: as
    /// [`ssl_ca_certs`](Self::ssl_ca_certs) (not a setting of the Python library).
    pub fn sentinel_ssl_ca_certs(&self) -> Option<&Path> {
        self.sentinel_ssl_ca_certs.as_deref().or(self.ssl_ca_certs())
    }

    /// Returns the PEM file of the client's certificate for the Sentinels. Default: as
    /// [`ssl_certfile`](Self::ssl_certfile) (not a setting of the Python library).
    pub fn sentinel_ssl_certfile(&self) -> Option<&Path> {
        self.sentinel_ssl_certfile.as_deref().or(self.ssl_certfile())
    }

    /// Returns the PEM file of the private key of [`sentinel_ssl_certfile`](Self::sentinel_ssl_certfile). Default: as
    /// [`ssl_keyfile`](Self::ssl_keyfile) (not a setting of the Python library).
    pub fn sentinel_ssl_keyfile(&self) -> Option<&Path> {
        self.sentinel_ssl_keyfile.as_deref().or(self.ssl_keyfile())
    }

    /// Returns the password of the encrypted key in [`sentinel_ssl_keyfile`](Self::sentinel_ssl_keyfile), in clear:
    /// handle with care. Default: as [`ssl_password`](Self::ssl_password) (not a setting of the Python library).
    pub fn sentinel_ssl_password(&self) -> Option<&str> {
        self.sentinel_ssl_password.as_ref().map(Password::expose).or(self.ssl_password())
    }

    /// Returns the name that the certificates of the Sentinels must have. Default: as
    /// [`ssl_server_name`](Self::ssl_server_name) (not a setting of the Python library).
    pub fn sentinel_ssl_server_name(&self) -> Option<&str> {
        self.sentinel_ssl_server_name.as_deref().or(self.ssl_server_name())
    }

    /// Returns the lowest version of TLS that the client speaks with Sentinels. Default: as
    /// [`ssl_min_version`](Self::ssl_min_version) (not a setting of the Python library).
    pub fn sentinel_ssl_min_version(&self) -> TlsVersion {
        self.sentinel_ssl_min_version.unwrap_or(self.ssl_min_version)
    }

    /// Returns whether the client accepts any certificate of a Sentinel. **Whoever controls the network can then name
    /// the master.** Default: as [`ssl_danger_accept_invalid_certs`](Self::ssl_danger_accept_invalid_certs) (not a
    /// setting of the Python library).
    pub fn sentinel_ssl_danger_accept_invalid_certs(&self) -> bool {
        self.sentinel_ssl_danger_accept_invalid_certs.unwrap_or(self.ssl_danger_accept_invalid_certs)
    }

    /// Returns the number of retries after the first attempt, 0 to 1000. Default: 3, as in the Python library
    /// `ha_redis`.
    pub fn retry_attempts(&self) -> u32 {
        self.retry_attempts
    }

    /// Returns the delay before the first retry, which doubles for each further one; up to 24 hours. Default: 100 ms,
    /// as in the Python library `ha_redis`.
    pub fn retry_base_delay(&self) -> Duration {
        self.retry_base_delay
    }

    /// Returns the name that `CLIENT LIST` shows for the connections. Default: none (not a setting of the Python
    /// library).
    pub fn client_name(&self) -> Option<&str> {
        self.client_name.as_deref()
    }

    /// Returns how long a call may wait for a usable connection, for example during a failover; up to 24 hours, zero
    /// means not at all. Default: 10 s (not a setting of the Python library).
    pub fn failover_wait(&self) -> Duration {
        self.failover_wait
    }

    /// Returns how long a call may take from beginning to end, with all its waits and attempts; up to 24 hours.
    /// Default: none, so that a call is bounded by its parts: [`failover_wait`](Self::failover_wait) and
    /// [`socket_timeout`](Self::socket_timeout) for each of its attempts, and the delays between them (not a setting
    /// of the Python library).
    pub fn call_timeout(&self) -> Option<Duration> {
        self.call_timeout
    }

    /// Returns how the delays between attempts are spread. Default: [`Jitter::Added`] (not a setting of the Python
    /// library).
    pub fn retry_jitter(&self) -> Jitter {
        self.retry_jitter
    }

    /// Returns how many retries are allowed for every hundred replies, after a reserve of one retry for each call
    /// that may be in flight ([`max_in_flight`](Self::max_in_flight)). The limit keeps retries from overloading a
    /// server that is already failing; 100 means no limit. Default: 20 (not a setting of the Python library).
    pub fn retry_budget(&self) -> u32 {
        self.retry_budget
    }

    /// Returns which commands are sent again although they may have run. Default: [`RetrySafety::Repeatable`] (not a
    /// setting of the Python library).
    pub fn retry_safety(&self) -> RetrySafety {
        self.retry_safety
    }

    /// Returns how many commands of a connection may wait for replies at a time, 1 to 10,000,000; further calls wait
    /// in a queue. Default: 65,536 (not a setting of the Python library).
    pub fn max_in_flight(&self) -> u32 {
        self.max_in_flight
    }

    /// Returns how many bytes of commands may wait to be written to a connection, 1 KiB to 4 GiB; further calls wait
    /// in a queue. A single command may be larger. Default: 16 MiB (not a setting of the Python library).
    pub fn max_in_flight_bytes(&self) -> u64 {
        self.max_in_flight_bytes
    }

    /// Returns how many bytes of memory the reply to one call may take, 1 KiB to 1 TiB. The replies to a pipeline
    /// count together, and a message of a subscriber counts as a reply. The memory of the values counts: 56 bytes for
    /// each element of any type, and for a string its length and some 32 bytes more. A larger reply is skipped and
    /// not stored: its caller gets an error ([`Error::is_reply_too_large`](crate::Error::is_reply_too_large)), and
    /// the connection continues to serve the others. Default: 1 GiB, twice the largest string that Redis sends by
    /// default (not a setting of the Python library).
    pub fn max_reply_bytes(&self) -> u64 {
        self.max_reply_bytes
    }

    /// Returns how deep the aggregates of a reply may nest, 1 to 1024; a deeper one is treated like one that is
    /// larger than [`max_reply_bytes`](Self::max_reply_bytes). Default: 128 (not a setting of the Python library).
    pub fn max_reply_depth(&self) -> u32 {
        self.max_reply_depth
    }

    /// Returns how the replica for a read of [`Client::replica_connection`](crate::Client::replica_connection) is
    /// chosen. Default: [`ReplicaStrategy::RoundRobin`] (not a setting of the Python library).
    pub fn replica_strategy(&self) -> ReplicaStrategy {
        self.replica_strategy
    }

    /// Returns the replicas to prefer for reads while one of them is healthy, for example those of the same zone,
    /// each by its address (`10.1.0.5:6379`), host (`10.1.0.5`, `redis1.example.com`), domain (`.zone-a.example.com`)
    /// or IP network (`10.1.0.0/16`). They are compared with the addresses that the master or the Sentinels report.
    /// Default: empty, so that no replica is preferred (not a setting of the Python library).
    pub fn preferred_replicas(&self) -> &[String] {
        &self.preferred_replicas
    }

    /// Returns how many bytes a replica may lag behind the master and still serve reads. The lag is measured about
    /// every second. Default: none, so that a replica serves reads however far behind it is (not a setting of the
    /// Python library).
    pub fn replica_max_lag(&self) -> Option<u64> {
        self.replica_max_lag
    }

    /// Returns whether the master serves reads of [`Client::replica_connection`](crate::Client::replica_connection)
    /// while there is no healthy replica. If not, they wait for one, up to [`failover_wait`](Self::failover_wait).
    /// Default: true (not a setting of the Python library).
    pub fn replica_fallback(&self) -> bool {
        self.replica_fallback
    }

    /// Returns how many bytes of messages a [`PubSub`](crate::PubSub) buffers for its reader, 1 KiB to 4 GiB; beyond
    /// that the oldest are dropped, and the reader gets their number. A single message may be larger; each counts
    /// with a few hundred bytes in addition to its own. Default: 16 MiB (not a setting of the Python library).
    pub fn pubsub_buffer_bytes(&self) -> u64 {
        self.pubsub_buffer_bytes
    }
}
