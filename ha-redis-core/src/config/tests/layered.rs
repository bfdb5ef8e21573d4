//! Settings by name, in layers, and what the table says of each.

use proptest::prelude::*;

use super::{SECRET, any_config};
use crate::config::{LayeredBuilder, Problem, RedisConfig, Setting, SettingKind};

fn errors(builder: &LayeredBuilder) -> Vec<String> {
    builder.build().unwrap_err().to_string().lines().map(str::to_owned).collect()
}

/// Returns whether the setting takes the text, alone.
fn takes(setting: &Setting, text: &str) -> bool {
    let mut config = RedisConfig::default();
    (setting.read)(&mut config, text) && (setting.valid)(&config)
}

#[test]
fn kinds_describe_what_settings_take() {
    for setting in Setting::all() {
        let name = setting.name();
        let takes = |text: &str| takes(setting, text);
        match setting.kind() {
            SettingKind::Number { min, max } => {
                assert!(takes(&min.to_string()) && takes(&max.to_string()), "{name}");
                let above = u128::from(max) + 1;
                assert!(!takes(&above.to_string()) && !takes("-1") && !takes("1.5"), "{name}");
                assert!(min == 0 || !takes(&(min - 1).to_string()), "{name}");
                let bounds = format!("from {min} to {max}");
                assert!(setting.allowed().contains(&bounds), "{name}: {bounds}");
            }
            SettingKind::Duration { zero } => {
                assert!(takes("5") && takes("250ms") && takes("24h") && !takes("86401s"), "{name}");
                assert_eq!(takes("0"), zero, "{name}");
            }
            SettingKind::Switch => {
                for word in ["true", "False", "YES", "no", "on", "off", "1", "0"] {
                    assert!(takes(word), "{name}={word}");
                }
                assert!(!takes("maybe") && !takes(""), "{name}");
            }
            SettingKind::Choice(words) => {
                assert!(words.iter().all(|word| takes(word) && setting.allowed().contains(word)), "{name}");
                assert!(!takes("nonsense"), "{name}");
            }
            SettingKind::List => assert!(takes("a.example, b.example:7"), "{name}"),
            SettingKind::Map => assert!(takes("a=b,c:1=d:2"), "{name}"),
            SettingKind::Text | SettingKind::File => assert!(!takes(""), "{name}"),
        }
    }
}

#[test]
fn each_setting_is_described() {
    for setting in Setting::all() {
        let description = setting.description();
        assert!(description.ends_with('.') && !description.contains('\n'), "{description}");
        assert_eq!(Setting::by_name(setting.name()).unwrap().name(), setting.name());
        assert_eq!(setting.is_secret(), setting.name().ends_with("password"));
        assert!(format!("{setting:?}").contains(setting.name()));
    }
    assert_eq!(Setting::nearest("sentinel_host").unwrap().name(), "sentinel_hosts");
    assert_eq!(Setting::nearest("max_connection").unwrap().name(), "max_connections");
    assert!(Setting::nearest("colour").is_none());
    assert!(Setting::nearest(&"x".repeat(1 << 20)).is_none());
}

#[test]
fn values_hide_passwords() {
    let config = RedisConfig::builder().password(SECRET).build().unwrap();
    let value = |name| Setting::by_name(name).unwrap().value_in(&config);
    assert_eq!(value("password").as_deref(), Some("***"));
    assert_eq!(value("sentinel_password"), None);
    assert_eq!(value("socket_timeout").as_deref(), Some("5s"));
}

#[test]
fn sentinels_are_read_with_and_without_ports() {
    let mut builder = LayeredBuilder::new();
    builder.set("use_sentinel", "yes", "1");
    builder.set("sentinel_hosts", "s1:7000, s2,[::1]:5,[::2], fd00::3", "2");
    let config = builder.build().unwrap();
    let hosts: Vec<_> = config.sentinel_hosts().iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["s1:7000", "s2:26379", "[::1]:5", "[::2]:26379", "[fd00::3]:26379"]);
    for text in ["", "s1,", "s1:", "s1:0", "s1:x", "s1:70000", "[::1", "a b", "/run/s"] {
        let mut builder = LayeredBuilder::new();
        builder.set("sentinel_hosts", text, "A");
        assert_eq!(errors(&builder).len(), 1, "{text}");
    }
}

#[test]
fn later_layers_replace_earlier_ones() {
    let mut builder = LayeredBuilder::new();
    builder.set("host", "one", "file:1").set("port", "7000", "file:2").set("password", SECRET, "file:3");
    builder.set("host", "two", "REDIS_HOST");
    assert_eq!(builder.origin("host"), Some("REDIS_HOST"));
    assert_eq!(builder.origin("port"), Some("file:2"));
    assert_eq!(builder.origin("db"), None);
    assert_eq!(builder.build().unwrap().url(), "redis://:hunter2secret@two:7000");

    builder.url("rediss://three/4", "REDIS_URL");
    assert_eq!(builder.build().unwrap().url(), "rediss://:hunter2secret@three/4");
    assert_eq!(["port", "db", "ssl"].map(|name| builder.origin(name)), [Some("REDIS_URL"); 3]);
    assert_eq!(builder.origin("password"), Some("file:3"));

    builder.url("unix:/run/redis.sock", "REDIS_URL");
    assert_eq!(builder.build().unwrap().url(), "unix://:hunter2secret@/run/redis.sock?db=4");
    assert_eq!(["host", "unix_socket"].map(|name| builder.origin(name)), [None, Some("REDIS_URL")]);
}

#[test]
fn settings_go_back_to_their_defaults() {
    let mut builder = LayeredBuilder::new();
    builder
        .set("password", SECRET, "1")
        .set("ssl", "on", "1")
        .set("ssl_ca_certs", "/ca", "1")
        .set("db", "1", "1");
    builder.set("ssl", "off", "2").unset("ssl_ca_certs").unset("db").unset("db").unset("colour");
    assert_eq!(builder.build().unwrap().url(), "redis://:hunter2secret@localhost");
    assert_eq!(["db", "ssl_ca_certs", "password"].map(|name| builder.origin(name)), [None, None, Some("1")]);
}

#[test]
fn switch_off_drops_what_lower_layers_set_for_it() {
    let file = || {
        let mut builder = LayeredBuilder::new();
        builder.set("ssl", "on", "1").set("ssl_ca_certs", "/ca", "1").set("sentinel_ssl_ca_certs", "/s", "1");
        builder.set("use_sentinel", "on", "1").set("sentinel_hosts", "s1", "1").end_layer();
        builder
    };
    let mut builder = file();
    builder.set("ssl", "off", "2").set("use_sentinel", "off", "2").end_layer();
    assert_eq!(builder.build().unwrap(), RedisConfig::default());
    assert_eq!(builder.origin("ssl_ca_certs"), None);

    let mut builder = file();
    builder.url("redis://localhost", "2").end_layer();
    assert_eq!(builder.build().unwrap(), RedisConfig::default());

    let mut builder = file();
    builder.url("redis://localhost", "2").set("ssl", "on", "2").end_layer();
    assert_eq!(
        builder.build().unwrap().url(),
        "rediss://localhost?ssl_ca_certs=%2Fca&sentinel_ssl_ca_certs=%2Fs"
    );

    let mut builder = file();
    builder.set("ssl", "off", "2").set("ssl_certfile", "/c", "2").set("ssl_keyfile", "/k", "2").end_layer();
    let fields: Vec<_> =
        builder.build().unwrap_err().problems().iter().map(|problem| problem.field().to_owned()).collect();
    assert_eq!(fields, ["ssl_certfile", "ssl_keyfile"], "a layer may not contradict itself");

    let mut builder = LayeredBuilder::new();
    builder.set("ssl_ca_certs", "/ca", "1").end_layer().set("ssl", "off", "2").end_layer();
    assert_eq!(errors(&builder).len(), 1, "TLS was never on");
}

#[test]
fn user_information_of_a_url_replaces_that_of_lower_layers() {
    let mut builder = LayeredBuilder::new();
    builder.set("username", "app", "1").set("password", "a", "1").end_layer();
    builder.url("redis://:b@h", "2").end_layer();
    assert_eq!(builder.build().unwrap().url(), "redis://:b@h");
    assert_eq!(["username", "password"].map(|name| builder.origin(name)), [None, Some("2")]);
    builder.url("redis://other@h", "3").end_layer();
    assert_eq!(builder.build().unwrap().url(), "redis://other:b@h", "a secret of another layer");
}

#[test]
fn url_without_tls_does_not_send_passwords_of_lower_layers() {
    let file = || {
        let mut builder = LayeredBuilder::new();
        builder.set("ssl", "on", "file:1").set("password", SECRET, "file:2").end_layer();
        builder
    };
    let mut builder = file();
    builder.url("redis://h", "REDIS_URL").end_layer();
    assert_eq!(
        errors(&builder),
        [
            "`password` from file:2: found <hidden>, expected a password from where the URL is, because the URL turns ssl \
          off (from REDIS_URL) and would send this one in clear; begin the URL with rediss:// or rediss+sentinel://, \
          or set ssl to false next to it"
        ]
    );
    for (name, value) in [("ssl", "on"), ("ssl", "off"), ("password", "p")] {
        let mut next_to = file();
        next_to.url("redis://h", "2").set(name, value, "2").end_layer();
        next_to.build().unwrap();
        let mut later = builder.clone();
        later.set(name, value, "3").end_layer();
        later.build().unwrap();
    }
    for url in ["rediss://h", "unix:/run/redis.sock", "redis://:p@h"] {
        file().url(url, "2").end_layer().build().unwrap();
        builder.clone().url(url, "3").end_layer().build().unwrap();
    }

    let mut builder = LayeredBuilder::new();
    builder.set("ssl", "on", "1").set("sentinel_password", SECRET, "1").end_layer();
    builder.url("redis+sentinel://s1", "2").end_layer();
    assert_eq!(builder.build().unwrap_err().problems()[0].field(), "sentinel_password");
}

#[test]
fn mistakes_of_all_layers_are_reported_with_their_origins() {
    let mut builder = LayeredBuilder::new();
    builder.set("max_connections", "0", "redis.toml:3").set("max_connections", "10", "REDIS_MAX_CONNECTIONS");
    builder.set("pasword", SECRET, "redis.toml:4").set("colour", "red", "redis.toml:5");
    builder.url("redis://host/two?retry_jitter=some", "REDIS_URL");
    builder.set("port", "redis://:hunter2secret@host", "REDIS_PORT");
    builder.report(Problem::new("file", "a file", "create it").found("redis.toml").with_origin("code"));
    assert_eq!(
        errors(&builder),
        [
            "`max_connections` from redis.toml:3: found \"0\", expected a whole number from 1 to 10000; \
             correct it, or leave it out for the default 50",
            "`pasword` from redis.toml:4: found <hidden>, expected the name of a setting, such as password; \
             correct it to password",
            "`colour` from redis.toml:5: found <hidden>, expected the name of a setting; remove it",
            "`retry_jitter` in the query of the URL from REDIS_URL: found \"some\", expected added, equal, full or none; \
             correct it, or leave it out for the default added",
            "`db` in the path of the URL from REDIS_URL: found <hidden>, expected the number of a database, from 0 to \
             4294967295; correct it, or leave it out for the default 0",
            "`port` from REDIS_PORT: found <hidden>, expected a port from 1 to 65535; \
             correct it, or leave it out for the default 6379",
            "`file` from code: found \"redis.toml\", expected a file; create it",
        ]
    );
}

#[test]
fn contradictions_name_both_origins() {
    let mut builder = LayeredBuilder::new();
    builder.set("username", "app", "REDIS_USERNAME").set("ssl_ca_certs", "/ca", "redis.toml:1");
    builder.set("ssl", "off", "REDIS_SSL").set("sentinel_ssl_certfile", "/cert", "redis.toml:2");
    builder.set("sentinel_ssl", "on", "redis.toml:3").url("redis://hunter2secret", "URL");
    builder.set("use_sentinel", "on", "REDIS_USE_SENTINEL");
    assert_eq!(
        errors(&builder),
        [
            "`password`: found none, expected a password, because username is set (from REDIS_USERNAME); \
             set it, or leave username out; in a URL, a password without a user name is written :password@host",
            "`ssl_ca_certs` from redis.toml:1: found \"/ca\", expected nothing while ssl is off (from URL); \
             turn ssl on (in a URL by rediss:// or rediss+sentinel://), or leave it out",
            "`sentinel_ssl_keyfile`: found none, expected a file, because sentinel_ssl_certfile is set \
             (from redis.toml:2); set both, or leave sentinel_ssl_certfile out",
            "`host` in the authority of the URL from URL: found <hidden>, expected no host, port or unix_socket \
             together with use_sentinel (from REDIS_USE_SENTINEL); \
             leave it out, since the Sentinels report the master, or turn use_sentinel off",
            "`sentinel_hosts`: found none, expected the address of at least one Sentinel, because use_sentinel is on \
             (from REDIS_USE_SENTINEL); set sentinel_hosts, or turn use_sentinel off",
        ]
    );
}

#[test]
fn one_mistake_causes_no_others() {
    let mut builder = LayeredBuilder::new();
    builder.set("use_sentinel", "perhaps", "1").set("sentinel_hosts", "s1", "2");
    builder.set("ssl", "perhaps", "3").set("ssl_ca_certs", "/ca", "4");
    builder.set("username", "app", "5").set("password", "", "6");
    let fields: Vec<_> =
        builder.build().unwrap_err().problems().iter().map(|problem| problem.field().to_owned()).collect();
    assert_eq!(fields, ["use_sentinel", "ssl", "password"]);

    let mut builder = LayeredBuilder::new();
    builder.set("username", "app", "1").url("redis://:secret@host:0", "2");
    assert_eq!(errors(&builder).len(), 1);
}

#[test]
fn keys_and_origins_stay_on_their_line() {
    let mut builder = LayeredBuilder::new();
    builder.set(&format!("a\n{}", "b".repeat(300)), "1", "x\ny");
    let [error] = &errors(&builder)[..] else { panic!("one line") };
    assert!(error.contains("(302 bytes)` from x\\ny: found <hidden>"), "{error}");
}

proptest! {
    #[test]
    fn settings_round_trip_by_name(config in any_config()) {
        let mut builder = LayeredBuilder::new();
        for setting in Setting::all() {
            let value = (setting.text)(&config);
            if let Some(value) = value.filter(|value| (setting.text)(&RedisConfig::default()).as_ref() != Some(value)) {
                builder.set(setting.name(), &value, "origin");
            }
        }
        prop_assert_eq!(builder.build().unwrap(), config.clone());
        prop_assert_eq!(builder.unset("colour").build().unwrap(), config);
        for setting in Setting::all() {
            builder.unset(setting.name());
        }
        prop_assert_eq!(builder.build().unwrap(), RedisConfig::default());
    }

    #[test]
    fn url_on_top_of_defaults_reads_as_url(config in any_config()) {
        let mut builder = LayeredBuilder::new();
        builder.set("host", "elsewhere", "1").set("port", "1", "1").set("ssl", "true", "1");
        builder.url(&config.url(), "2");
        prop_assert_eq!(builder.build().unwrap(), config);
    }

    #[test]
    fn no_text_panics(name in prop::sample::select(Setting::all().map(Setting::name).collect::<Vec<_>>()), text in any::<String>()) {
        let mut builder = LayeredBuilder::new();
        builder.set(name, &text, "origin");
        if let Err(error) = builder.build() {
            prop_assert!(error.to_string().lines().all(|line| line.starts_with('`')), "{error}");
        }
    }
}
