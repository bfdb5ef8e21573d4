//! No text in a configuration breaks out of its setting, of the URL that it is written as, or of a line of a log.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;

use crate::config::{RedisConfig, RedisConfigBuilder};
use crate::proto::written::hostile_text;

/// A setting of free text: its name in a URL, the setter, and the accessor.
type Text =
    (&'static str, fn(RedisConfigBuilder, &str) -> RedisConfigBuilder, fn(&RedisConfig) -> Option<String>);

const TEXTS: [Text; 8] = [
    ("password", |builder, text| builder.password(text), |config| config.password().map(str::to_owned)),
    (
        "username",
        |builder, text| builder.password("pw").username(text),
        |config| config.username().map(str::to_owned),
    ),
    (
        "sentinel_password",
        |builder, text| builder.sentinel_password(text),
        |config| config.sentinel_password().map(str::to_owned),
    ),
    (
        "sentinel_username",
        |builder, text| builder.sentinel_password("pw").sentinel_username(text),
        |config| config.sentinel_username().map(str::to_owned),
    ),
    (
        "sentinel_master_name",
        |builder, text| builder.sentinel_master_name(text),
        |config| Some(config.sentinel_master_name().to_owned()),
    ),
    (
        "client_name",
        |builder, text| builder.client_name(text),
        |config| config.client_name().map(str::to_owned),
    ),
    (
        "preferred_replicas",
        |builder, text| builder.preferred_replicas([text]),
        |config| Some(config.preferred_replicas().join(",")),
    ),
    (
        "address_map",
        |builder, text| builder.address_map([(text, text)]),
        |config| Some(format!("{:?}", config.address_map())),
    ),
];

fn sentinels() -> RedisConfigBuilder {
    RedisConfig::builder().use_sentinel(true).sentinel_hosts([("s1", 26379)])
}

/// Returns true for text on one line of visible characters, as no log or terminal misreads it.
fn is_inert(text: &str) -> bool {
    text.chars().all(crate::peer_text::is_plain)
}

/// Checks that the URL of this configuration gives the same one again, and that its output is inert.
fn check(config: &RedisConfig) -> Result<(), TestCaseError> {
    let url = config.url();
    prop_assert!(url.bytes().all(|byte| byte.is_ascii_graphic()), "{}", url);
    prop_assert_eq!(&url.parse::<RedisConfig>().unwrap(), config, "{}", url);
    prop_assert!(is_inert(&config.to_string()), "{}", config);
    prop_assert!(is_inert(&format!("{config:?}")), "{config:?}");
    Ok(())
}

proptest! {
    #[test]
    fn any_text_stays_in_its_setting(text in hostile_text(), which in 0..TEXTS.len()) {
        let (name, set, read) = TEXTS[which];
        match set(sentinels(), &text).build() {
            Ok(config) => {
                check(&config)?;
                // Everything else is as it would be with another text.
                let other = set(config.to_builder(), "other").build().unwrap();
                prop_assert_eq!(other, set(sentinels(), "other").build().unwrap());
                let stays = read(&config);
                if !name.starts_with("preferred") && !name.starts_with("address") {
                    prop_assert_eq!(stays, Some(text));
                }
            }
            Err(error) => {
                prop_assert!(error.to_string().lines().all(is_inert), "{}", error);
                prop_assert!(error.problems().iter().all(|problem| problem.field() == name), "{}", error);
            }
        }
    }

    #[test]
    fn any_encoded_text_of_a_url_stays_in_its_setting(text in hostile_text(), which in 0..6_usize) {
        let (name, _, read) = TEXTS[which];
        let encoded = utf8_percent_encode(&text, NON_ALPHANUMERIC);
        let url = match name {
            "password" => format!("redis+sentinel://:{encoded}@s1/"),
            "username" => format!("redis+sentinel://{encoded}:pw@s1/"),
            "sentinel_master_name" => format!("redis+sentinel://s1/{encoded}"),
            "sentinel_username" => format!("redis+sentinel://s1/?sentinel_password=pw&sentinel_username={encoded}"),
            _ => format!("redis+sentinel://s1/?{name}={encoded}"),
        };
        if let Ok(config) = url.parse::<RedisConfig>() {
            check(&config)?;
            let given = if text.is_empty() { read(&sentinels().build().unwrap()) } else { Some(text) };
            prop_assert_eq!(read(&config), given, "{}", url);
        }
    }

    #[test]
    fn any_unix_path_stays_in_its_setting(text in hostile_text()) {
        let path = format!("/run/{text}x");
        match RedisConfig::builder().unix_socket(&path).build() {
            Ok(config) => {
                check(&config)?;
                prop_assert_eq!(config.unix_socket(), Some(std::path::Path::new(&path)));
                prop_assert!(is_inert(&config.address().to_string()), "{}", config.address());
            }
            Err(error) => prop_assert!(error.to_string().lines().all(is_inert), "{}", error),
        }
    }

    #[test]
    fn errors_of_any_url_are_inert(
        scheme in prop::sample::select(&["", "redis://", "rediss://", "redis+sentinel://", "unix:", "redis://h?"][..]),
        text in hostile_text(),
    ) {
        match format!("{scheme}{text}").parse::<RedisConfig>() {
            Ok(config) => check(&config)?,
            Err(error) => {
                prop_assert!(error.to_string().lines().all(is_inert), "{}", error);
                prop_assert!(is_inert(&format!("{error:?}")), "{error:?}");
            }
        }
    }
}
