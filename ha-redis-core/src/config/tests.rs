mod any;
mod injection;
mod layered;
mod secrets;

use proptest::prelude::*;

use self::any::any_config;
use super::*;

const SECRET: &str = "hunter2secret";

fn read(url: &str) -> RedisConfig {
    url.parse().unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// Returns the mistakes in a URL as (field, value).
fn mistakes(url: &str) -> Vec<(String, String)> {
    let error = url.parse::<RedisConfig>().expect_err(url);
    error.problems().iter().map(|problem| (problem.field().into(), problem.value().into())).collect()
}

fn one_mistake(url: &str, field: &str, value: &str) {
    assert_eq!(mistakes(url), [(field.to_owned(), value.to_owned())], "{url}");
}

fn fields(builder: RedisConfigBuilder) -> Vec<String> {
    let error = builder.build().unwrap_err();
    assert_eq!(error.to_string().lines().count(), error.problems().len(), "one line for each problem");
    error.problems().iter().map(|problem| problem.field().to_owned()).collect()
}

#[test]
fn defaults_are_valid() {
    let config = RedisConfig::builder().build().unwrap();
    assert_eq!(config, RedisConfig::default());
    assert_eq!(config.url(), "redis://localhost");
    assert_eq!(config.address(), Address::tcp("localhost", 6379));
}

#[test]
fn recommended_connections_are_valid() {
    assert_eq!(RedisConfig::recommended_max_connections(0), 10);
    assert_eq!(RedisConfig::recommended_max_connections(4), 18);
    for recommended in [
        RedisConfig::recommended_max_connections(usize::MAX),
        RedisConfig::recommended_max_connections_here(),
    ] {
        RedisConfig::builder().max_connections(recommended).build().unwrap();
    }
}

#[test]
fn all_mistakes_reported_together() {
    let builder = RedisConfig::builder()
        .host("a b")
        .port(0)
        .username("")
        .password("")
        .max_connections(10_001)
        .socket_timeout(Duration::ZERO)
        .socket_connect_timeout(Duration::from_secs(86_401))
        .health_check_interval(Duration::MAX)
        .sentinel_hosts([("s1", 1)])
        .sentinel_master_name("my master")
        .sentinel_username("watcher")
        .sentinel_socket_timeout(Duration::ZERO)
        .sentinel_socket_connect_timeout(Duration::ZERO)
        .promotion_hold(Duration::MAX)
        .address_map([("a:1", "b")])
        .retry_attempts(1001)
        .retry_base_delay(Duration::MAX)
        .client_name("naïve")
        .failover_wait(Duration::MAX)
        .preferred_replicas(["10.0.0.0/40"]);
    let expected = [
        "host",
        "port",
        "username",
        "password",
        "max_connections",
        "socket_timeout",
        "socket_connect_timeout",
        "health_check_interval",
        "client_name",
        "sentinel_master_name",
        "sentinel_socket_timeout",
        "sentinel_socket_connect_timeout",
        "promotion_hold",
        "address_map",
        "failover_wait",
        "retry_attempts",
        "retry_base_delay",
        "preferred_replicas",
        "sentinel_password",
        "sentinel_hosts",
    ];
    assert_eq!(fields(builder), expected);
}

#[test]
fn problem_message() {
    let error = RedisConfig::builder().max_connections(0).client_name("a\nb").build().unwrap_err();
    assert_eq!(
        error.to_string(),
        "`max_connections`: found \"0\", expected a whole number from 1 to 10000; \
         correct it, or leave it out for the default 50\n\
         `client_name`: found \"a\\nb\", expected printable ASCII characters without spaces, at least one; \
         correct it, or leave it out"
    );
    let error = "redis://host/two".parse::<RedisConfig>().unwrap_err();
    assert!(error.to_string().starts_with("`db` in the path of the URL: found <hidden>"), "{error}");
}

#[test]
fn contradicting_settings_rejected() {
    let sentinel = || RedisConfig::builder().use_sentinel(true).sentinel_hosts([("s1", 26379)]);
    assert_eq!(fields(RedisConfig::builder().use_sentinel(true)), ["sentinel_hosts"]);
    assert_eq!(fields(RedisConfig::builder().sentinel_hosts([("s1", 26379)])), ["sentinel_hosts"]);
    assert_eq!(fields(sentinel().host("h").port(1)), ["host", "port"]);
    assert_eq!(fields(sentinel().unix_socket("/s")), ["unix_socket"]);
    assert_eq!(fields(sentinel().sentinel_hosts([Address::unix("/s")])), ["sentinel_hosts"]);
    assert_eq!(
        fields(RedisConfig::builder().unix_socket("/s").host("h").port(1).ssl(true)),
        ["host", "port", "ssl"]
    );
    assert_eq!(fields(RedisConfig::builder().username("app")), ["password"]);
    sentinel().ssl(true).db(3).username("app").password("p").build().unwrap();
}

#[test]
fn sentinel_tls_defaults_to_data_tls() {
    let shared = RedisConfig::builder()
        .use_sentinel(true)
        .sentinel_hosts([("s1", 26379)])
        .ssl(true)
        .ssl_ca_certs("/ca")
        .ssl_certfile("/cert")
        .ssl_keyfile("/key")
        .ssl_server_name("redis.internal");
    let files = |config: &RedisConfig| {
        [config.sentinel_ssl_ca_certs(), config.sentinel_ssl_certfile(), config.sentinel_ssl_keyfile()]
            .map(|path| path.unwrap().display().to_string())
    };
    let config = shared.clone().build().unwrap();
    assert!(config.sentinel_ssl());
    assert_eq!(files(&config), ["/ca", "/cert", "/key"]);
    assert_eq!(config.sentinel_ssl_server_name(), Some("redis.internal"));
    let unsafe_data = shared.clone().ssl_danger_accept_invalid_certs(true).ssl_password(SECRET);
    let config = unsafe_data.clone().build().unwrap();
    assert!(config.sentinel_ssl_danger_accept_invalid_certs());
    assert_eq!(config.sentinel_ssl_password(), Some(SECRET));
    let config = unsafe_data.sentinel_ssl_danger_accept_invalid_certs(false).build().unwrap();
    assert!(!config.sentinel_ssl_danger_accept_invalid_certs());
    let apart = shared.clone().sentinel_ssl_certfile("/c").sentinel_ssl_keyfile("/k");
    let config = apart.sentinel_ssl_server_name("sentinel.internal").build().unwrap();
    assert_eq!(files(&config), ["/ca", "/c", "/k"]);
    assert_eq!(config.sentinel_ssl_server_name(), Some("sentinel.internal"));
    assert!(!shared.sentinel_ssl(false).build().unwrap().sentinel_ssl());
}

#[test]
fn tls_settings_rejected_without_tls() {
    let tls = || RedisConfig::builder().ssl(true);
    assert_eq!(
        fields(RedisConfig::builder().ssl_ca_certs("/ca").ssl_server_name("h")),
        ["ssl_ca_certs", "ssl_server_name"]
    );
    assert_eq!(
        fields(tls().sentinel_ssl(false).sentinel_ssl_ca_certs("/ca")),
        ["sentinel_ssl_ca_certs"],
        "the Sentinels' TLS settings need sentinel_ssl"
    );
    RedisConfig::builder().sentinel_ssl(true).sentinel_ssl_ca_certs("/ca").build().unwrap();
    assert_eq!(fields(tls().ssl_certfile("/cert")), ["ssl_keyfile"]);
    assert_eq!(fields(tls().sentinel_ssl_keyfile("/key")), ["sentinel_ssl_certfile"]);
    assert_eq!(fields(tls().ssl_ca_certs("").ssl_server_name("a b")), ["ssl_ca_certs", "ssl_server_name"]);
    let off = RedisConfig::builder().ssl_password(SECRET).ssl_min_version(TlsVersion::Tls13);
    assert_eq!(
        fields(off.ssl_danger_accept_invalid_certs(true)),
        ["ssl_password", "ssl_min_version", "ssl_danger_accept_invalid_certs"]
    );
    assert_eq!(fields(tls().ssl_password(SECRET)), ["ssl_password"], "there is no key");
    assert_eq!(fields(tls().sentinel_ssl_password("")), ["sentinel_ssl_password", "sentinel_ssl_password"]);
}

#[test]
fn key_password_is_hidden() {
    let key = RedisConfig::builder().ssl(true).ssl_certfile("/cert").ssl_keyfile("/key").ssl_password(SECRET);
    let config = key.sentinel_ssl(false).build().unwrap();
    let shown =
        "rediss://localhost?ssl_certfile=%2Fcert&ssl_keyfile=%2Fkey&ssl_password=***&sentinel_ssl=false";
    assert_eq!(config.to_string(), shown);
    assert_eq!(read(&config.url()), config);
    let mistakes = [
        config.to_builder().ssl(false),
        RedisConfig::builder().ssl_password(SECRET),
        RedisConfig::builder().ssl(true).ssl_password(SECRET),
        RedisConfig::builder().sentinel_ssl_password(SECRET),
    ];
    for builder in mistakes {
        let error = builder.clone().build().unwrap_err();
        assert!(!format!("{builder:?} {error} {error:?}").contains(SECRET), "{error}");
    }
}

#[test]
fn tls_versions() {
    assert_eq!(read("rediss://h").ssl_min_version(), TlsVersion::Tls12);
    for newest in ["rediss://h?ssl_min_version=1.3", "rediss://h?ssl_min_version=TLSv1.3"] {
        assert_eq!(read(newest).url(), "rediss://h?ssl_min_version=1.3");
        assert_eq!(read(newest).sentinel_ssl_min_version(), TlsVersion::Tls13);
    }
    one_mistake("rediss://h?ssl_min_version=1.1", "ssl_min_version", "1.1");
}

#[test]
fn hosts_and_socket_paths_validated() {
    for host in ["redis", "redis_1.svc.", "10.0.0.1", "::1", "fe80::1%eth0", "bücher.example"] {
        RedisConfig::builder().host(host).build().unwrap();
    }
    for host in ["", "a b", "a/b", "a@b", "[::1]", "host:1", ":::1", "fe80::1%", "a,b", "a%b"] {
        assert_eq!(fields(RedisConfig::builder().host(host)), ["host"], "{host}");
    }
    for path in ["", "relative.sock", "/run/", "/a\0b"] {
        assert_eq!(fields(RedisConfig::builder().unix_socket(path)), ["unix_socket"], "{path}");
    }
}

#[test]
fn direct_urls() {
    let config = read("redis://app:p%40ss%3A@redis.example:7000/2");
    assert_eq!(config.address(), Address::tcp("redis.example", 7000));
    assert_eq!((config.username(), config.password(), config.db()), (Some("app"), Some("p@ss:"), 2));

    assert_eq!(read("redis://:a:b@h/").password(), Some("a:b"));
    assert_eq!(read("redis://:a@b@h").password(), Some("a@b"));
    assert_eq!(read("REDISS://h").url(), "rediss://h");
    assert_eq!(read("redis://[fe80::1%25eth0]:7000").address(), Address::tcp("fe80::1%eth0", 7000));
    assert_eq!(read("redis://app@h?password=a+b%26c").password(), Some("a+b&c"));
    assert_eq!(RedisConfig::try_from("redis://h"), "redis://h".parse());
}

#[test]
fn unix_urls() {
    let config = read("unix://app:pw@/run/redis%401.sock?db=1");
    assert_eq!(config.address(), Address::unix("/run/redis@1.sock"));
    assert_eq!((config.username(), config.password(), config.db()), (Some("app"), Some("pw"), 1));
    assert_eq!(read("redis+unix:///s?user=app&pass=pw").url(), "unix://app:pw@/s");
}

#[test]
fn sentinel_urls_of_all_clients_equal() {
    let expected = RedisConfig::builder()
        .use_sentinel(true)
        .sentinel_hosts([("s1", 26379), ("s2", 7000), ("::1", 26379)])
        .sentinel_master_name("orders")
        .password("pw")
        .db(2)
        .build()
        .unwrap();
    for url in [
        "redis+sentinel://:pw@s1,s2:7000,[::1]/orders/2",
        "redis+sentinel://:pw@s1,s2:7000,[::1]/orders?db=2",
        "redis-sentinel://:pw@s1,s2:7000,[::1]/orders/2",
        "redis-sentinel://pw@s1,s2:7000,[::1]:26379/2#orders",
        "redis-sentinel://pw@s1,s2:7000,[::1]?sentinelMasterId=orders&database=2",
        "redis-sentinel://:pw@s1,s2:7000,[::1]/2?sentinelServiceName=orders",
    ] {
        assert_eq!(read(url), expected, "{url}");
    }
    assert_eq!(expected.url(), "redis+sentinel://:pw@s1,s2:7000,[::1]/orders/2");
    assert!(read("rediss-sentinel://s1").ssl());
    assert!(read("rediss+sentinel://s1").ssl());

    let fred =
        read("redis-sentinel://s1:1/0?sentinelServiceName=m&sentinelUsername=u&sentinelPassword=p&node=s2:2");
    assert_eq!((fred.sentinel_username(), fred.sentinel_password()), (Some("u"), Some("p")));
    assert_eq!(fred.sentinel_hosts().len(), 2);
}

#[test]
fn sentinel_url_path() {
    for (url, service, db) in [
        ("redis+sentinel://s1", "mymaster", 0),
        ("redis+sentinel://s1/", "mymaster", 0),
        ("redis+sentinel://s1/a%2Fb", "a/b", 0),
        ("redis+sentinel://s1/3", "mymaster", 3),
        ("redis+sentinel://s1/3/0", "3", 0),
        ("redis+sentinel://s1/3#orders", "orders", 3),
    ] {
        let config = read(url);
        assert_eq!((config.sentinel_master_name(), config.db()), (service, db), "{url}");
    }
}

#[test]
fn word_before_at_is_username_or_lettuce_password() {
    for scheme in ["redis", "rediss", "redis+sentinel", "rediss+sentinel"] {
        assert_eq!(read(&format!("{scheme}://word@h?password=p")).username(), Some("word"));
        one_mistake(&format!("{scheme}://word@h"), "password", "none");
    }
    assert_eq!(read("unix://word@/s?password=p").username(), Some("word"));
    for scheme in ["redis-sentinel", "rediss-sentinel"] {
        let config = read(&format!("{scheme}://word@h"));
        assert_eq!((config.username(), config.password()), (None, Some("word")));
    }
}

/// URLs in the forms of redis-rs, Lettuce and fred.
#[test]
fn urls_of_other_clients() {
    for (url, same) in [
        ("redis://@h", "redis://h"),
        ("redis://:@h", "redis://h"),
        ("redis://h:", "redis://h"),
        ("redis://h:/2", "redis://h/2"),
        ("redis://[::1]:", "redis://[::1]"),
        ("redis+sentinel://:@s1:,s2:7000/orders", "redis+sentinel://s1,s2:7000/orders"),
        ("redis-sentinel://@s1", "redis+sentinel://s1"),
        ("valkey://:pw@h/1", "redis://:pw@h/1"),
        ("valkeys://h", "rediss://h"),
        ("VALKEY://h", "redis://h"),
        ("redis+ssl://pw@h", "rediss://:pw@h"),
        ("valkey-sentinel://pw@s1#orders", "redis+sentinel://:pw@s1/orders"),
        ("valkeys+sentinel://s1", "rediss+sentinel://s1"),
        ("unix:/run/a.sock", "unix:///run/a.sock"),
        ("UNIX:/run/a.sock?db=1", "unix:///run/a.sock?db=1"),
        ("redis+unix:/run/a.sock?db=1&user=app&pass=pw", "unix://app:pw@/run/a.sock?db=1"),
        ("valkey+unix:/run/a.sock", "unix:///run/a.sock"),
        ("unix:/run/a.sock?client_name=%3A//", "unix:///run/a.sock?client_name=%3A%2F%2F"),
        ("unix://localhost/run/a.sock", "unix:///run/a.sock"),
        ("redis+socket://pw@/run/a.sock?database=1", "unix://:pw@/run/a.sock?db=1"),
        ("redis-socket:/run/a.sock", "unix:///run/a.sock"),
        ("redis://h/?protocol=resp3", "redis://h?protocol=resp3"),
        ("redis://h?protocol=2", "redis://h?protocol=resp2"),
        ("redis://h?timeout=1500", "redis://h?call_timeout=1500ms"),
        ("redis://h?timeout=10s", "redis://h?call_timeout=10s"),
        ("redis://h?timeout=1d", "redis://h?call_timeout=86400s"),
        ("redis://h?timeout=5m", "redis://h?call_timeout=300s"),
        ("redis://h?timeout=700us", "redis://h?call_timeout=700us"),
    ] {
        assert_eq!(read(url).url(), same, "{url}");
        assert_eq!(read(url), read(same), "{url}");
    }
}

#[test]
fn parameters_set_settings() {
    let url = "redis://h?max_connections=7&socket_timeout=2.5&socket_connect_timeout=500ms\
               &health_check_interval=0&retry_attempts=0&retry_base_delay=1s&client_name=api&failover_wait=2m\
               &replica_strategy=least-lag&preferred_replicas=.a.example,10.1.0.0/16&replica_max_lag=1024\
               &replica_fallback=false";
    let expected = RedisConfig::builder()
        .host("h")
        .max_connections(7)
        .socket_timeout(Duration::from_millis(2500))
        .socket_connect_timeout(Duration::from_millis(500))
        .health_check_interval(Duration::ZERO)
        .retry_attempts(0)
        .retry_base_delay(Duration::from_secs(1))
        .client_name("api")
        .failover_wait(Duration::from_secs(120))
        .replica_strategy(ReplicaStrategy::LeastLag)
        .preferred_replicas([".a.example", "10.1.0.0/16"])
        .replica_max_lag(1024)
        .replica_fallback(false);
    assert_eq!(read(url), expected.build().unwrap());
}

#[test]
fn protocol_accepts_redis_rs_values() {
    for (text, expected) in [
        ("auto", Protocol::Auto),
        ("resp3", Protocol::Resp3),
        ("3", Protocol::Resp3),
        ("resp2", Protocol::Resp2),
        ("2", Protocol::Resp2),
    ] {
        assert_eq!(read(&format!("redis://h/?protocol={text}")).protocol(), expected, "{text}");
    }
    assert_eq!(read("redis://h").protocol(), Protocol::Auto);
    assert_eq!(read("redis://h?protocol=3").url(), "redis://h?protocol=resp3");
}

#[test]
fn address_map_round_trips() {
    let map = [("10.0.0.1:6379", "localhost:7001"), ("fd00::1", "redis.example"), ("[fd00::2]:1", "[::1]:2")];
    let config = read(
        "redis+sentinel://s1?address_map=10.0.0.1:6379=localhost:7001,fd00::1=redis.example,[fd00::2]:1=[::1]:2",
    );
    assert!(config.address_map().iter().eq(map));
    assert_eq!(read(&config.url()), config);
    let reached = |host, port| config.address_map().reach(&Address::tcp(host, port));
    assert_eq!(reached("fd00::1", 5), Some(Address::tcp("redis.example", 5)));
    assert_eq!(reached("fd00::2", 1), Some(Address::tcp("::1", 2)));
    assert_eq!(reached("10.0.0.1", 1), None);
    let both = RedisConfig::builder().address_map([("Host", "any"), ("host:1", "one:2")]).build().unwrap();
    assert_eq!(both.address_map().reach(&Address::tcp("HOST", 1)), Some(Address::tcp("one", 2)));
    assert_eq!(both.address_map().reach(&Address::tcp("host", 3)), Some(Address::tcp("any", 3)));

    for text in
        ["", "a", "a=", "=a", "a:1=b", "a=b:1", "a:0=b:1", "a=b,", "a=b,a=c", "a b=c", "/a=b", "a=b=c"]
    {
        one_mistake(&format!("redis://h?address_map={text}"), "address_map", text);
    }
    let twice = RedisConfig::builder().address_map([("a:1", "b:1"), ("A:1", "c:1")]);
    assert_eq!(fields(twice), ["address_map"]);
}

#[test]
fn url_mistakes_name_their_part() {
    one_mistake("http://h", "scheme", "http");
    one_mistake("localhost:6379", "scheme", "<hidden>");
    one_mistake("redis://", "host", "");
    one_mistake("redis://h:70000", "port", "<hidden>");
    one_mistake("redis://h/-1", "db", "-1");
    one_mistake("redis://h/1?db=1", "db", "a value in the query and one in the path");
    one_mistake("redis://h?ssl=true", "query", "ssl");
    one_mistake("redis://h#insecure", "fragment", "<hidden>");
    one_mistake("redis://app:@h", "password", "<hidden>");
    one_mistake("redis://h?timeout=", "call_timeout", "");
    one_mistake("redis://h?timeout=soon", "call_timeout", "soon");
    one_mistake("unix:run/redis.sock", "scheme", "<hidden>");
    one_mistake("redis:/run/redis.sock", "scheme", "<hidden>");
    one_mistake("valkey+tls://h", "scheme", "valkey+tls");
    one_mistake("redis://h?sentinel_password=", "sentinel_password", "<hidden>");
    one_mistake("redis://:%FF@h", "password", "<hidden>");
    one_mistake("redis://[::1", "host", "<hidden>");
    one_mistake("redis://h?socket_timeout=0", "socket_timeout", "0s");
    one_mistake("redis://h?socket_timeout=soon", "socket_timeout", "soon");
    one_mistake("redis://h?protocol=4", "protocol", "4");
    one_mistake("redis://h?replica_strategy=nearest", "replica_strategy", "nearest");
    one_mistake("redis://h?preferred_replicas=a,,b", "preferred_replicas", "a,,b");
    one_mistake("unix://run/redis.sock", "unix_socket", "<hidden>");
    one_mistake("unix://", "unix_socket", "");
    one_mistake("redis+sentinel:///orders", "sentinel_hosts", "");
    one_mistake("redis+sentinel://s1/orders/x", "db", "<hidden>");
    one_mistake("redis+sentinel://s1/orders#orders", "db", "<hidden>");

    let hosts = mistakes("redis+sentinel://s1:0,a b,s3,:1");
    assert_eq!(
        hosts,
        ["<hidden>", "<hidden>", ""].map(|value| ("sentinel_hosts".to_owned(), value.to_owned()))
    );
    let all = mistakes("redis://app:@h:0/x?nonsense=1&db=2&db=3&retry_attempts=-1&max_connections=0");
    let fields: Vec<_> = all.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(fields, ["query", "db", "retry_attempts", "port", "db", "password", "max_connections"]);

    let error = "http://h".parse::<RedisConfig>().unwrap_err();
    for scheme in ["redis://", "rediss://", "unix://", "redis+sentinel://", "rediss-sentinel://"] {
        assert!(error.to_string().contains(scheme), "{error}");
    }
}

proptest! {
    #[test]
    fn url_round_trips(config in any_config()) {
        let url = config.url();
        prop_assert_eq!(read(&url), config);
    }

    #[test]
    fn parsing_never_panics(
        scheme in prop_oneof!["redis://", "unix://", "unix:", "valkey", "redis+sentinel://", "redis-sentinel://", ""],
        rest in prop_oneof!["[a-z0-9:/?#@,&=%\\[\\]]{0,30}", any::<String>()],
    ) {
        if let Ok(config) = format!("{scheme}{rest}").parse::<RedisConfig>() {
            prop_assert_eq!(config.url().parse::<RedisConfig>().unwrap(), config);
        }
    }
}
