//! No text of a file or variable panics, and no error shows a password in it.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;

use ha_redis_config::{Loader, json_schema};
use ha_redis_core::config::Setting;
use proptest::prelude::*;

const SECRET: &str = "HUNTER2SECRET";

/// Pieces of files of all formats, around a password.
fn any_file() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => Just(SECRET.to_owned()),
        4 => prop::sample::select(&["password", "url", "host", "sessions", "sentinel_hosts", "port", "ssl"][..]).prop_map(str::to_owned),
        12 => prop::sample::select(&[
            "=", ":", ": ", "\"", "'", "\n", "\n  ", "\n- ", "[", "]", "{", "}", ",", "\\", "\\u", "#", " #", "&a ", "*a",
            "!t ", "|", ">", "\t", "true", "null", "1", "-", "---\n", "export ", "redis://:", "@", "\u{feff}", "\"\"\"", "<<",
            "password = \"", "password: ", "{\"password\": \"", "? ", "%", "`",
        ][..]).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

/// Keys and sources are shown, so a password in their place is shown too.
fn shows_secret(error: &str) -> bool {
    let values = error.lines().filter_map(|line| line.split_once(": found ")).map(|(_, rest)| rest);
    values.into_iter().any(|value| value.contains(SECRET))
}

proptest! {
    #[test]
    fn files_never_panic_or_show_their_secrets(text in any_file(), format in 0..4_usize) {
        let folder = tempfile::tempdir().unwrap();
        let name = ["redis.toml", "redis.yaml", "redis.json", ".env"][format];
        let path = folder.path().join(name);
        fs::write(&path, &text).unwrap();
        let loader = Loader::new().environment([("", ""); 0]);
        let loader = if name == ".env" { loader.dotenv(path) } else { loader.file(path) };
        if let Err(error) = loader.load("sessions") {
            let error = error.to_string();
            let syntax = error.lines().any(|line| line.contains("`syntax`") && line.contains(SECRET));
            prop_assert!(!syntax, "{text:?}: {error}");
            prop_assert!(error.lines().all(|line| line.starts_with('`') || line.starts_with("and ")), "{error}");
        }
    }

    #[test]
    fn values_under_known_keys_show_no_secret(secret in "[!-~]{6,20}", is_sentinel in any::<bool>()) {
        let name = if is_sentinel { "sentinel_password" } else { "password" };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("redis.json");
        let quoted = serde_json::to_string(&secret).unwrap();
        fs::write(&path, format!("{{\"{name}\": {quoted}, \"port\": 0, \"x{name}\": {quoted}, \"username\": \"a b\"}}")).unwrap();
        let loader = Loader::new().environment([(format!("REDIS_{}_FILE", name.to_uppercase()), secret.clone())]).file(path);
        let loaded = loader.read_default();
        let shown = format!("{} {}", loaded.config().unwrap_err(), loaded.explain());
        prop_assume!(!shown.replace(&secret, "").is_empty() && !format!("x{name} REDIS_{}_FILE", name.to_uppercase()).contains(&secret));
        prop_assert!(!shown.contains(&secret), "{shown}");
    }

    #[test]
    fn variables_never_panic(name in prop::sample::select(Setting::all().map(Setting::name).chain(["url"]).collect::<Vec<_>>()), text in prop_oneof![any::<String>(), any_file()]) {
        let variable = format!("REDIS_{}", name.to_uppercase());
        if let Err(error) = Loader::new().environment([(variable, text.replace('\0', ""))]).load_default() {
            let is_hidden = name.contains("password") || name == "url";
            prop_assert!(!is_hidden || !shows_secret(&error.to_string()), "{error}");
        }
    }
}

/// Texts of the largest size that nest or repeat as much as they can.
#[test]
fn large_files_are_read_or_refused() {
    let large = |piece: &str| piece.repeat((1 << 20) / piece.len() - 8);
    let keys = |separator: &str| (0..60_000).map(|key| format!("k{key}{separator}1\n")).collect::<String>();
    for (name, text) in [
        ("redis.toml", format!("a = {}", large("["))),
        ("redis.toml", format!("a = {}", large("{a="))),
        ("redis.toml", large("[a]\n")),
        ("redis.toml", format!("a{}", large(".a"))),
        ("redis.toml", keys(" = ")),
        ("redis.yaml", large("[")),
        ("redis.yaml", large("{a: ")),
        ("redis.yaml", large("- ")),
        ("redis.yaml", large("? ")),
        ("redis.yaml", format!("a: {}", large("&a "))),
        ("redis.yaml", format!("a: \"{}", large("\\n"))),
        ("redis.yaml", keys(": ")),
        ("redis.json", format!("{{\"a\": {}", large("["))),
        ("redis.json", large("{\"a\":")),
        ("redis.json", format!("{{\"a\": \"{}", large("\\u0041"))),
        (".env", large("A='")),
        (".env", keys("=")),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, &text).unwrap();
        let loader = Loader::new().environment([("", ""); 0]);
        let loader = if name == ".env" { loader.dotenv(path) } else { loader.file(path) };
        if let Err(error) = loader.load_default() {
            assert!(error.to_string().len() < 10_000, "{name}: {}", &text[..20]);
        }
    }
}

#[test]
fn schema_is_json() {
    serde_json::from_str::<serde_json::Value>(&json_schema()).unwrap();
}
