//! The JSON Schema is up to date, accepts the sample, and agrees with the loader.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::path::{Path, PathBuf};

use ha_redis_config::{Loader, RedisConfig, json_schema};
use ha_redis_core::config::{Setting, SettingKind};
use serde_json::{Value, json};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sample() -> PathBuf {
    repository().join("examples/redis.toml")
}

fn validator() -> jsonschema::Validator {
    let schema = serde_json::from_str(&json_schema()).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

/// Returns what the schema has against a file, and what the loader has.
fn verdicts(file: &Value) -> (Vec<String>, Option<String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("redis.json");
    fs::write(&path, file.to_string()).unwrap();
    let loaded = Loader::new().environment([("", ""); 0]).file(path).read_default();
    let errors = validator().iter_errors(file).map(|error| error.to_string()).collect();
    (errors, loaded.config().err().map(|error| error.to_string()))
}

#[test]
fn schema_file_is_up_to_date() {
    let file = fs::read_to_string(repository().join("ha-redis-config/redis-config.schema.json")).unwrap();
    assert!(file == json_schema(), "run `cargo xtask config schema`");
}

#[test]
fn sample_is_valid() {
    let text = fs::read_to_string(sample()).unwrap();
    let file: Value = toml::from_str(&text).unwrap();
    let errors: Vec<_> = validator().iter_errors(&file).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn sample_loads() {
    let loader =
        Loader::new().environment([("REDIS_PASSWORD", "p"), ("REDIS_SESSIONS_DB", "1")]).file(sample());
    let load = |name: &str| loader.load(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(loader.read_default().names().collect::<Vec<_>>(), ["cache", "queue", "sessions"]);
    let sessions = load("sessions");
    assert_eq!((sessions.sentinel_hosts().len(), sessions.db(), sessions.ssl()), (3, 1, true));
    assert_eq!(sessions.sentinel_hosts()[2].to_string(), "sentinel3.example.com:26380");
    let cache = load("cache");
    assert_eq!((cache.port(), cache.password(), cache.preferred_replicas().len()), (6380, Some("p"), 2));
    let queue = load("queue");
    assert_eq!((queue.max_connections(), queue.address_map().iter().count()), (100, 2));
    loader.load_default().unwrap();
}

#[test]
fn every_default_is_accepted() {
    let schema: Value = serde_json::from_str(&json_schema()).unwrap();
    for setting in Setting::all() {
        let definition = &schema["definitions"][setting.name()];
        assert!(definition["description"].as_str().unwrap().starts_with(setting.description()));
        assert_eq!(
            definition.get("default").is_some(),
            setting.default_text().is_some(),
            "{}",
            setting.name()
        );
        if let Some(default) = definition.get("default") {
            let (errors, mistakes) = verdicts(&json!({ setting.name(): default }));
            assert!(errors.is_empty() && mistakes.is_none(), "{}: {errors:?} {mistakes:?}", setting.name());
        }
    }
    assert!(verdicts(&json!({})).0.is_empty());
    assert_eq!(Loader::new().environment([("", ""); 0]).load_default().unwrap(), RedisConfig::default());
}

/// Values that the schema accepts for a kind, and the loader reads.
#[test]
fn schema_and_loader_agree_on_each_kind() {
    for setting in Setting::all() {
        let name = setting.name();
        let (good, bad) = match setting.kind() {
            SettingKind::Number { min, max } => (
                vec![json!(min), json!(max)],
                vec![json!(-1), json!(max as f64 * 2.0), json!("x"), json!(true)],
            ),
            SettingKind::Duration { zero } => {
                let bad = if zero { json!(-1) } else { json!(0) };
                (
                    vec![json!(2), json!(0.25), json!("250ms"), json!("24h")],
                    vec![bad, json!(86401), json!("5 s")],
                )
            }
            SettingKind::Switch => (vec![json!(true), json!(false)], vec![json!("maybe"), json!(2)]),
            SettingKind::Choice(words) => (words.iter().map(|word| json!(word)).collect(), vec![json!("x")]),
            SettingKind::List => {
                let good = vec![json!("a,b:1"), json!(["a", "b:1"]), json!([["a", 1]])];
                (good, vec![json!(true), json!([{ "host": "a" }]), json!([["a", 1, 2]])])
            }
            SettingKind::Map => {
                (vec![json!("a=b"), json!({ "a": "b" })], vec![json!(1), json!({ "a": true })])
            }
            _ => (vec![json!("/sample")], vec![json!(true), json!(["a"])]),
        };
        for value in good {
            let is_host = matches!(name, "host" | "ssl_server_name" | "sentinel_ssl_server_name");
            let value = if value == json!("/sample") && is_host { json!("sample") } else { value };
            let (errors, mistakes) = verdicts(&json!({ name: value }));
            assert!(errors.is_empty(), "{name} = {value}: {errors:?}");
            // Alone, a setting may contradict the defaults, but its value is read.
            let starts = format!("`{name}` from ");
            let refused =
                mistakes.filter(|text| text.starts_with(&starts) && text.contains(setting.allowed()));
            assert_eq!(refused, None, "{name} = {value}");
        }
        for value in bad {
            let (errors, mistakes) = verdicts(&json!({ name: value }));
            assert!(!errors.is_empty() && mistakes.is_some(), "{name} = {value}: {errors:?} {mistakes:?}");
        }
    }
}

#[test]
fn unknown_keys_are_refused_by_both() {
    for file in
        [json!({ "colour": 1 }), json!({ "cache": { "colour": 1 } }), json!({ "cache": { "url": 1 } })]
    {
        assert!(!verdicts(&file).0.is_empty(), "{file}");
    }
    let empty = json!({ "password": null, "ssl_ca_certs": "", "preferred_replicas": [], "call_timeout": "", "port": null });
    assert_eq!(verdicts(&empty), (vec![], None));
    let good = json!({ "url": "redis://host", "cache": { "url": "redis://host", "db": 1 } });
    assert_eq!(verdicts(&good), (vec![], None));
}
