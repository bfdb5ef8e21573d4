//! Generates valid configurations for property tests.

use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::config::{Jitter, RetrySafety};
use crate::config::{MAX_CONNECTIONS, Protocol, RedisConfig, RedisConfigBuilder, TlsVersion};
use crate::replica_choice::ReplicaStrategy;

fn any_host() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9][a-z0-9._-]{0,12}",
        any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|ip| ip.to_string()),
        Just("fe80::1%eth0".to_owned()),
        Just("bücher.example".to_owned()),
    ]
}

fn any_secret() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{1,12}", "\\PC{1,12}", any::<String>()]
        .prop_filter("not empty", |text| !text.is_empty())
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof!["[0-9]{1,3}", "[!-~]{1,12}", "[à-ÿ/%#?@:&=+,]{1,8}", Just("mymaster".to_owned())]
}

fn any_duration() -> impl Strategy<Value = Duration> {
    let nanos =
        prop_oneof![1..=86_400_000_000_000_u64, (1..=86_400_u64).prop_map(|seconds| seconds * 1_000_000_000)];
    nanos.prop_map(Duration::from_nanos)
}

fn any_server() -> impl Strategy<Value = RedisConfigBuilder> {
    let tcp = (any_host(), 1..=u16::MAX, any::<bool>())
        .prop_map(|(host, port, ssl)| RedisConfig::builder().host(host).port(port).ssl(ssl));
    let unix = "/[ -~à-ÿ]{0,12}[a-z@%]".prop_map(|path| RedisConfig::builder().unix_socket(path));
    let sentinel = (vec((any_host(), prop_oneof![Just(26379), 1..=u16::MAX]), 1..4), any::<bool>())
        .prop_map(|(hosts, ssl)| RedisConfig::builder().use_sentinel(true).sentinel_hosts(hosts).ssl(ssl));
    prop_oneof![tcp, unix, sentinel]
}

fn any_jitter() -> impl Strategy<Value = Jitter> {
    prop_oneof![Just(Jitter::Added), Just(Jitter::Equal), Just(Jitter::Full), Just(Jitter::None)]
}

fn any_replicas() -> impl Strategy<Value = (ReplicaStrategy, Vec<String>, u64, bool)> {
    use ReplicaStrategy::{LeastLag, LowestLatency, Random, RoundRobin};
    let strategy = prop_oneof![Just(RoundRobin), Just(Random), Just(LowestLatency), Just(LeastLag)];
    let named = ["10.0.0.1:6379", "redis1", ".a.example", "10.1.0.0/16", "fd00::/8", "[::1]:7"];
    let preferred = vec(proptest::sample::select(named.map(str::to_owned).to_vec()), 0..3);
    (strategy, preferred, any::<u64>(), any::<bool>())
}

fn any_protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Auto), Just(Protocol::Resp3), Just(Protocol::Resp2)]
}

fn any_retry_safety() -> impl Strategy<Value = RetrySafety> {
    prop_oneof![Just(RetrySafety::ReadOnly), Just(RetrySafety::Repeatable), Just(RetrySafety::Anything)]
}

/// Settings of TLS that are the same for servers and Sentinels.
#[derive(Clone, Debug)]
struct AnyTls {
    /// The authorities, the certificate and key, then those of the Sentinels.
    files: Vec<Option<String>>,
    name: Option<String>,
    password: Option<String>,
    newest: bool,
    danger: bool,
}

/// Whether the Sentinels use TLS, and the other settings.
fn any_tls() -> impl Strategy<Value = (Option<bool>, AnyTls)> {
    let files = vec(option::of("[!-~à-ÿ]{1,12}"), 4);
    let tls = (files, option::of(any_host()), option::of(any_secret()), any::<bool>(), any::<bool>())
        .prop_map(|(files, name, password, newest, danger)| AnyTls { files, name, password, newest, danger });
    (option::of(any::<bool>()), tls)
}

/// Adds TLS settings where TLS is on.
fn with_tls(mut builder: RedisConfigBuilder, tls: &AnyTls) -> RedisConfigBuilder {
    let [ca, pair, sentinel_ca, sentinel_pair] = &tls.files[..] else { return builder };
    let config = builder.clone().build().unwrap();
    let version = if tls.newest { TlsVersion::Tls13 } else { TlsVersion::Tls12 };
    if config.ssl() {
        builder = builder.ssl_min_version(version).ssl_danger_accept_invalid_certs(tls.danger);
        builder = ca.iter().fold(builder, RedisConfigBuilder::ssl_ca_certs);
        builder = pair.iter().fold(builder, |builder, file| builder.ssl_certfile(file).ssl_keyfile(file));
        builder = tls.name.iter().fold(builder, RedisConfigBuilder::ssl_server_name);
        if pair.is_some() {
            builder = tls.password.iter().fold(builder, RedisConfigBuilder::ssl_password);
        }
    }
    if config.sentinel_ssl() {
        builder =
            builder.sentinel_ssl_min_version(version).sentinel_ssl_danger_accept_invalid_certs(!tls.danger);
        builder = sentinel_ca.iter().fold(builder, RedisConfigBuilder::sentinel_ssl_ca_certs);
        builder = sentinel_pair
            .iter()
            .fold(builder, |builder, file| builder.sentinel_ssl_certfile(file).sentinel_ssl_keyfile(file));
        builder = tls.name.iter().fold(builder, RedisConfigBuilder::sentinel_ssl_server_name);
        if sentinel_pair.is_some() {
            builder = tls.password.iter().fold(builder, RedisConfigBuilder::sentinel_ssl_password);
        }
    }
    builder
}

prop_compose! {
    pub(super) fn any_config()(
        server in any_server(),
        credentials in option::of((option::of(any_name()), any_secret())),
        sentinel_credentials in option::of((option::of(any_name()), any_secret())),
        (db, protocol) in (prop_oneof![Just(0), any::<u32>()], any_protocol()),
        master in any_name(),
        client_name in option::of("[!-~]{1,12}"),
        numbers in option::of((1..=MAX_CONNECTIONS, 0..=1000_u32)),
        times in option::of(vec(any_duration(), 9)),
        follower in option::of((any::<bool>(), any::<bool>(), vec((any_host(), any_host()), 0..3))),
        replicas in option::of(any_replicas()),
        retries in option::of((any_jitter(), any_retry_safety(), 0..=100_u32, 1..=10_000_000_u32)),
        (sentinel_ssl, tls) in any_tls(),
    ) -> RedisConfig {
        let mut builder = server.db(db).protocol(protocol).sentinel_master_name(master);
        if let Some((username, password)) = credentials {
            builder = builder.password(password);
            builder = username.into_iter().fold(builder, RedisConfigBuilder::username);
        }
        if let Some((username, password)) = sentinel_credentials {
            builder = builder.sentinel_password(password);
            builder = username.into_iter().fold(builder, RedisConfigBuilder::sentinel_username);
        }
        if let Some((connections, retries)) = numbers {
            builder = builder.max_connections(connections).retry_attempts(retries);
            builder = builder.shared_connections(connections.min(64));
        }
        if let Some(times) = times {
            builder = builder
                .socket_timeout(times[0])
                .socket_connect_timeout(times[1])
                .health_check_interval(times[2])
                .sentinel_socket_timeout(times[3])
                .sentinel_socket_connect_timeout(times[4])
                .retry_base_delay(times[5])
                .failover_wait(times[6])
                .call_timeout(times[7])
                .promotion_hold(times[8]);
        }
        if let Some((majority, early, mut map)) = follower {
            map.sort();
            map.dedup_by(|a, b| a.0.eq_ignore_ascii_case(&b.0));
            builder = builder.sentinel_require_majority(majority).early_promotion(early).address_map(map);
        }
        if let Some((jitter, safety, budget, in_flight)) = retries {
            builder = builder
                .retry_jitter(jitter)
                .retry_safety(safety)
                .retry_budget(budget)
                .max_in_flight(in_flight)
                .max_in_flight_bytes(u64::from(in_flight) + 1024)
                .max_reply_bytes(u64::from(in_flight) + 2048)
                .max_reply_depth(1 + in_flight % 1024);
        }
        if let Some((strategy, preferred, lag_bytes, fallback)) = replicas {
            builder = builder
                .replica_strategy(strategy)
                .preferred_replicas(preferred)
                .replica_max_lag(lag_bytes)
                .replica_fallback(fallback);
        }
        builder = sentinel_ssl.into_iter().fold(builder, RedisConfigBuilder::sentinel_ssl);
        builder = with_tls(builder, &tls);
        client_name.into_iter().fold(builder, RedisConfigBuilder::client_name).build().unwrap()
    }
}
