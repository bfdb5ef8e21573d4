//! Errors about a configuration show no password, and stay short.

use proptest::prelude::*;

use super::{SECRET, one_mistake};
use crate::config::RedisConfig;

#[test]
fn url_in_place_of_host_hidden_in_errors() {
    let hosts = [("hunter2secret@h", 1)];
    for config in [
        RedisConfig::builder().host("redis://:hunter2secret@h"),
        RedisConfig::builder().use_sentinel(true).sentinel_hosts(hosts),
    ] {
        assert!(!format!("{config:?}").contains(SECRET), "{config:?}");
        let error = config.build().unwrap_err();
        assert!(!format!("{error} {error:?}").contains(SECRET), "{error}");
    }
}

#[test]
fn errors_hide_passwords() {
    for url in [
        "hunter2secret@h",
        "x:hunter2secret@h",
        "x:hunter2secret://h",
        "http://:hunter2secret@h",
        "redis://hunter2secret@h",
        "redis://hunter2secret x@h",
        "redis://user:hunter2secret",
        "redis://user:a:hunter2secret",
        "redis://:a/hunter2secret",
        "redis://:a/hunter2secret@h",
        "redis://:a?hunter2secret@h",
        "redis://:a#hunter2secret@h",
        "redis://:a#hunter2secret",
        "redis://:a?hunter2secret",
        "redis://:%FFhunter2secret@h",
        "redis://h?password=a&hunter2secret=1",
        "redis://:hunter2secret@h?password=hunter2secret",
        "redis://h?pasword=hunter2secret",
        "redis+sentinel://s1,user:hunter2secret",
        "redis+sentinel://:a/b/hunter2secret",
        "unix://:hunter2secret/path",
        "unix:hunter2secret",
        "hunter2secret:/path",
        "redis:/hunter2secret",
        "unix:/path@hunter2secret",
        "hunter2secret://h",
        "redis-hunter2secret://h",
        "redis://h/hunter2secret",
        "redis://h/1/hunter2secret",
        "redis://user:pa@ss/hunter2secret",
        "redis://user:pa@ss:hunter2secret",
        "redis://hunter2secret!",
        "redis://h:1:hunter2secret",
        "redis://h?hunter2secret",
        "redis://h?hunter2secret=",
        "redis://h?decode=hunter2secret",
        "redis://h?user=hunter2secret%20x",
        "redis://h?password=a&db=hunter2secret",
        "redis://h?password=a&client_name=hunter2secret%20b",
        "redis://h?password=a&ssl_ca_certs=hunter2secret",
        "redis+sentinel://s1/hunter2secret%20x",
        "redis+sentinel://s1/orders/hunter2secret",
        "redis+sentinel://s1#hunter2secret x",
        "redis+sentinel://s1?node=hunter2secret!",
        "redis+sentinel://hunter2secret!,s2",
        "unix:///run/hunter2secret/",
    ] {
        let error = url.parse::<RedisConfig>().expect_err(url);
        assert!(!format!("{error} {error:?}").contains(SECRET), "{url}: {error}");
    }
}

#[test]
fn output_hides_passwords() {
    let builder = RedisConfig::builder()
        .username("app")
        .password(SECRET)
        .sentinel_username("watcher")
        .sentinel_password(SECRET);
    assert!(!format!("{builder:?}").contains(SECRET));
    let config = builder.build().unwrap();
    assert!(!format!("{config:?}").contains(SECRET));
    let shown = "redis://app:***@localhost?sentinel_username=watcher&sentinel_password=***";
    assert_eq!(config.to_string(), shown);
    assert!(config.url().contains(SECRET));
}

#[test]
fn numeric_port_hidden_in_errors() {
    let error = "redis://user:99999".parse::<RedisConfig>().unwrap_err();
    assert!(!format!("{error} {error:?}").contains("99999"), "{error}");
}

#[test]
fn unknown_parameter_named_only_if_close_to_known() {
    one_mistake("redis://h?socket_timout=5", "query", "socket_timout");
    one_mistake("redis://h?Client_Name=5", "query", "Client_Name");
    one_mistake("redis://h?port=5", "query", "port");
    one_mistake("redis://h?db=1&decode_responses=true", "query", "<hidden>");
    let error = "redis://h?db=1&decode_responses=true".parse::<RedisConfig>().unwrap_err();
    assert!(error.problems()[0].remedy().contains("parameter 2"), "{error}");
}

#[test]
fn error_of_long_url_is_short() {
    let many = "x=1&".repeat(15_000);
    let error = format!("redis://h?{many}").parse::<RedisConfig>().unwrap_err();
    let text = error.to_string();
    assert!(text.len() < MAX_ERROR && text.ends_with("\nand 14968 more"), "{} bytes", text.len());
    assert_eq!((error.problems().len(), error.unlisted()), (32, 14_968));
    assert!(error.problems()[0].allowed().contains("socket_timeout"), "{text}");

    let long = "x y".repeat(20_000);
    let error = format!("redis://h?client_name={long}").parse::<RedisConfig>().unwrap_err();
    assert!(error.to_string().len() < 1000 && error.to_string().contains("60000 bytes"), "{error}");

    let error = format!("redis://h?{}", "x".repeat(585_000)).parse::<RedisConfig>().unwrap_err();
    assert_eq!(error.problems()[0].field(), "url");
    assert!(error.to_string().len() < 200, "{error}");
    let error = RedisConfig::builder().client_name("\0".repeat(1 << 20)).build().unwrap_err();
    assert!(error.to_string().len() < 1000);
}

/// The upper bound of the length of an error.
const MAX_ERROR: usize = 24 << 10;

/// Texts before, between and after the pieces of a password in a URL.
const AROUND: [&str; 22] = [
    "",
    "redis://",
    "rediss://user:",
    "unix://:",
    "unix:/",
    "redis+sentinel://s1,:",
    "redis-sentinel://",
    "http://",
    "@",
    "@h",
    ":",
    "/",
    "/1/",
    "?",
    "?password=",
    "?client_name=a%20b&pass=",
    "&",
    "&db=",
    "=",
    "#",
    "%FF",
    ",s2:",
];

proptest! {
    #[test]
    fn errors_hide_pieces_of_passwords(
        pieces in prop::collection::vec((prop::sample::select(&AROUND[..]), "[A-Z][0-9A-Z]{5,9}"), 1..4),
        behind in prop::sample::select(&AROUND[..]),
    ) {
        let mut url = pieces.iter().map(|(around, piece)| format!("{around}{piece}")).collect::<String>();
        url.push_str(behind);
        // The value of a parameter before any password is no password.
        let is_value = |piece: &str| {
            url.split_once(&format!("db={piece}")).is_some_and(|(before, _)| !before.contains("pass"))
        };
        if let Err(error) = url.parse::<RedisConfig>() {
            let text = format!("{error} {error:?}");
            prop_assert!(error.to_string().len() < MAX_ERROR);
            for (_, piece) in pieces.iter().filter(|(_, piece)| !is_value(piece)) {
                prop_assert!(!text.contains(piece), "{}: {}", url, error);
            }
        }
    }

    #[test]
    fn errors_are_short(
        scheme in prop_oneof![Just("redis://"), Just("redis+sentinel://"), Just("unix:"), Just("")],
        start in any::<String>(),
        again in any::<String>(),
        times in 1_usize..2000,
    ) {
        if let Err(error) = format!("{scheme}{start}{}", again.repeat(times)).parse::<RedisConfig>() {
            prop_assert!(error.to_string().len() < MAX_ERROR, "{} bytes", error.to_string().len());
        }
    }

    #[test]
    fn errors_hide_user_info(
        scheme in prop_oneof!["redis", "rediss", "unix", "redis+sentinel", "redis-sentinel", "http"],
        before in "[!-~]{0,6}",
        after in "[!-~]{0,6}",
        rest in "[a-z0-9:/?#,&=%\\[\\]]{0,12}",
    ) {
        let url = format!("{scheme}://user:{before}{SECRET}{after}@{rest}");
        if let Err(error) = url.parse::<RedisConfig>() {
            prop_assert!(!format!("{error} {error:?}").contains(SECRET), "{}: {}", url, error);
        }
    }
}

/// A path is shown, so the contents of a private key in its place would be.
#[test]
fn private_key_in_place_of_its_path_is_refused_and_hidden() {
    for key in ["-----BEGIN PRIVATE KEY-----hunter2", "hunter2\n", "a\rhunter2"] {
        let builder = RedisConfig::builder().ssl(true).ssl_certfile("c").ssl_keyfile(key);
        assert!(!format!("{builder:?}").contains("hunter2"));
        assert_eq!(
            builder.build().unwrap_err().to_string(),
            "`ssl_keyfile`: found <hidden>, expected the path of a PEM file, in UTF-8; write the path of the \
             file, not its contents, or leave it out"
        );
    }
}
