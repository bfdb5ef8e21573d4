//! Which layer wins, and how each kind of source is read.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::path::{Path, PathBuf};

use ha_redis_config::{Loaded, Loader, RedisConfig};
use ha_redis_core::config::{Setting, SettingKind};
use tempfile::TempDir;

const SECRET: &str = "hunter2secret";

/// A folder of files for a loader.
struct Files(TempDir);

impl Files {
    fn new<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        files.into_iter().for_each(|(name, text)| this.write(name, text));
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }
}

fn environment(variables: &[(&str, &str)]) -> Loader {
    Loader::new().environment(variables.iter().copied())
}

fn url(loader: &Loader) -> String {
    loader.load_default().unwrap_or_else(|error| panic!("{error}")).url()
}

fn is_default(loader: &Loader) -> bool {
    loader.load_default().unwrap_or_else(|error| panic!("{error}")) == RedisConfig::default()
}

/// Returns a text that differs from the default.
fn sample(setting: &Setting) -> String {
    match setting.kind() {
        SettingKind::Number { min, .. } => (min + 7).to_string(),
        SettingKind::Duration { .. } => "1234ms".into(),
        SettingKind::Switch => (setting.default_text().as_deref() != Some("true")).to_string(),
        SettingKind::Choice(words) => (*words.last().unwrap()).into(),
        SettingKind::List => "a.example:7001,b.example:7002".into(),
        SettingKind::Map => "a:1=b:2".into(),
        _ => "/sample".replace('/', if setting.name() == "unix_socket" { "/" } else { "" }),
    }
}

/// Asserts that a setting has its sample, from this source.
fn assert_is_set(loaded: &Loaded, setting: &Setting, source: &str) {
    let name = setting.name();
    let value = loaded.explain().value(name).unwrap_or_else(|| panic!("{name}: {:?}", loaded.config()));
    match setting.name() {
        "protocol" => assert_eq!(value, "resp2"),
        _ if setting.is_secret() => assert_eq!(value, "***"),
        _ => assert_eq!(value, sample(setting)),
    }
    assert_eq!(loaded.explain().source(name), Some(source), "{name}");
}

#[test]
fn every_setting_has_a_variable() {
    for setting in Setting::all() {
        let name = setting.name().to_ascii_uppercase();
        let loader = |variable: &str| Loader::new().environment([(variable.to_owned(), sample(setting))]);
        let shared = format!("REDIS_{name}");
        assert_is_set(&loader(&shared).read_default(), setting, &shared);
        let named = format!("REDIS_RATE_LIMITS_{name}");
        assert_is_set(&loader(&named).read("rate-limits"), setting, &named);
        assert_eq!(loader(&named).read_default().explain().source(setting.name()), None);
        let prefixed = format!("MY_APP_{name}");
        assert_is_set(&loader(&prefixed).env_prefix("my_app_").read_default(), setting, &prefixed);
        assert!(is_default(&loader(&prefixed)), "{name}");
    }
}

#[test]
fn every_setting_has_a_secret_and_a_variable_for_its_file() {
    for setting in Setting::all() {
        let name = setting.name();
        for file in [name.to_owned(), format!("redis_{name}"), format!("REDIS-{}", name.replace('_', "-"))] {
            let files = Files::new([(&*format!("secrets/{file}"), &*format!("{}\n", sample(setting)))]);
            let source = files.path("secrets").join(&file).display().to_string();
            let loader = environment(&[]).secrets_dir(files.path("secrets"));
            let loaded = loader.read_default();
            if setting.kind() == SettingKind::File {
                assert_eq!(loaded.explain().value(name), Some(&*source));
                continue;
            }
            assert_is_set(&loaded, setting, &source);
            let variable = format!("REDIS_{}_FILE", name.to_ascii_uppercase());
            assert_is_set(&environment(&[(&variable, &source)]).read_default(), setting, &variable);
        }
    }
}

#[test]
fn every_setting_can_stand_in_every_format() {
    for setting in Setting::all() {
        let (name, text) = (setting.name(), sample(setting));
        let plain = matches!(setting.kind(), SettingKind::Number { .. } | SettingKind::Switch);
        let value = if plain { text } else { format!("\"{text}\"") };
        for (file, text) in [
            ("redis.toml", format!("{name} = {value}\n")),
            ("redis.yaml", format!("{name}: {value}\n")),
            ("redis.yml", format!("---\n{{ {name}: {value} }}\n")),
            ("redis.json", format!("{{ \"{name}\": {value} }}")),
        ] {
            let files = Files::new([(file, &*format!("\u{feff}{text}"))]);
            let loaded = environment(&[]).file(files.path(file)).read_default();
            let line = if file == "redis.yml" { 2 } else { 1 };
            assert_is_set(&loaded, setting, &format!("{}:{line}", files.path(file).display()));
        }
    }
}

#[test]
fn later_layers_win() {
    let files = Files::new([
        ("redis.toml", "db = 1\n[sessions]\ndb = 2\n"),
        ("secrets/db", "3\n"),
        ("secrets/sessions_db", "4"),
        (".env", "REDIS_DB=6\nREDIS_SESSIONS_DB=7\n"),
    ]);
    let db = |loader: &Loader| {
        let loaded = loader.read("sessions");
        let source =
            loaded.explain().source("db").unwrap().replace(&format!("{}/", files.0.path().display()), "");
        (loaded.config().unwrap().db(), source)
    };
    let mut loader = environment(&[]).file(files.path("redis.toml"));
    assert_eq!(loader.load_default().unwrap().db(), 1);
    assert_eq!(db(&loader), (2, "redis.toml:3".into()));
    loader = loader.secrets_dir(files.path("secrets"));
    assert_eq!(loader.load_default().unwrap().db(), 3);
    assert_eq!(db(&loader), (4, "secrets/sessions_db".into()));
    loader = loader.url("redis://redis.example/5");
    assert_eq!(db(&loader), (5, "code".into()));
    loader = loader.dotenv(files.path(".env"));
    assert_eq!(loader.load_default().unwrap().db(), 6);
    assert_eq!(db(&loader), (7, ".env:2".into()));
    loader = loader.environment([("REDIS_URL", "redis://h/8")]);
    assert_eq!(db(&loader), (8, "REDIS_URL".into()));
    loader = loader.environment([("REDIS_URL", "redis://h/8"), ("REDIS_DB", "9")]);
    assert_eq!(db(&loader), (9, "REDIS_DB".into()));
    loader = loader.environment([("REDIS_DB", "9"), ("REDIS_SESSIONS_URL", "redis://h/10")]);
    assert_eq!(db(&loader), (10, "REDIS_SESSIONS_URL".into()));
    assert_eq!(loader.load_default().unwrap().db(), 9);
    loader = loader.set("db", "11");
    assert_eq!(db(&loader), (11, "code".into()));
}

#[test]
fn url_replaces_the_way_to_the_server() {
    let files = Files::new([(
        "redis.toml",
        "use_sentinel = true\nsentinel_hosts = ['s1', 's2:7000']\npassword = 'p'\nclient_name = 'api'\n",
    )]);
    let loader = environment(&[]).file(files.path("redis.toml"));
    assert_eq!(url(&loader), "redis+sentinel://:p@s1,s2:7000?client_name=api");
    assert_eq!(url(&loader.url("rediss://redis.example/1")), "rediss://:p@redis.example/1?client_name=api");
}

#[test]
fn variables_of_the_python_library() {
    let loader = environment(&[
        ("REDIS_PASSWORD", SECRET),
        ("REDIS_DB", "1"),
        ("REDIS_MAX_CONNECTIONS", "100"),
        ("REDIS_SOCKET_TIMEOUT", "10.0"),
        ("REDIS_SOCKET_CONNECT_TIMEOUT", "250ms"),
        ("REDIS_HEALTH_CHECK_INTERVAL", "60"),
        ("REDIS_USE_SENTINEL", "True"),
        ("REDIS_SENTINEL_HOSTS", r#"[["s1", 26379], ["::1", 26380], "s3:26381", "s4"]"#),
        ("REDIS_SENTINEL_MASTER_NAME", "orders"),
        ("REDIS_SENTINEL_PASSWORD", "sp"),
        ("REDIS_SSL", "yes"),
        ("REDIS_RETRY_ATTEMPTS", "5"),
        ("REDIS_RETRY_BASE_DELAY", "0.2"),
        ("REDIS_CLIENT_NAME", "api"),
    ]);
    let expected = "rediss+sentinel://:hunter2secret@s1,[::1]:26380,s3:26381,s4/orders/1?max_connections=100\
                    &socket_timeout=10s&socket_connect_timeout=250ms&health_check_interval=60s&client_name=api\
                    &sentinel_password=sp&retry_attempts=5&retry_base_delay=200ms";
    assert_eq!(url(&loader), expected);
    let direct = environment(&[("REDIS_HOST", "redis.example"), ("REDIS_PORT", " 6380 ")]);
    assert_eq!(url(&direct), "redis://redis.example:6380");
    let text = environment(&[("REDIS_USE_SENTINEL", "on"), ("REDIS_SENTINEL_HOSTS", "[::1]:1, s2")]);
    assert_eq!(url(&text), "redis+sentinel://[::1]:1,s2");
    let map = environment(&[("REDIS_ADDRESS_MAP", r#"{"10.0.0.1:6379": "localhost:7001"}"#)]);
    assert_eq!(url(&map), "redis://localhost?address_map=10.0.0.1%3A6379%3Dlocalhost%3A7001");
}

#[test]
fn names_have_no_case_and_empty_variables_are_not_set() {
    assert_eq!(url(&environment(&[("redis_Host", "h"), ("Redis_Password", "")])), "redis://h");
    assert!(is_default(&environment(&[("REDIS_URL", ""), ("REDIS_PORT", ""), ("REDIS_CONFIG_FILE", "")])));
    assert!(is_default(&environment(&[("HOST", "h"), ("XREDIS_HOST", "h"), ("", "x"), ("REDIS_", "x")])));
}

#[test]
fn variables_of_kubernetes_and_docker_are_ignored() {
    let mut variables = Vec::new();
    for service in ["REDIS", "REDIS_MASTER", "REDIS_SENTINEL", "REDIS_SESSIONS"] {
        for (name, value) in [
            ("SERVICE_HOST", "10.0.0.1"),
            ("SERVICE_PORT", "6379"),
            ("SERVICE_PORT_TCP_REDIS", "6379"),
            ("PORT", "tcp://10.0.0.1:6379"),
            ("PORT_6379_TCP", "tcp://10.0.0.1:6379"),
            ("PORT_6379_TCP_PROTO", "tcp"),
            ("PORT_6379_TCP_PORT", "6379"),
            ("PORT_6379_TCP_ADDR", "10.0.0.1"),
            ("ENV_REDIS_VERSION", "7.4"),
        ] {
            variables.push((format!("{service}_{name}"), value.to_owned()));
        }
    }
    for name in
        ["NAME", "VERSION", "DOWNLOAD_URL", "DOWNLOAD_SHA", "PORT_NUMBER", "DATA_DIR", "ALLOW_EMPTY_PASSWORD"]
    {
        variables.push((format!("REDIS_{name}"), "x".into()));
    }
    let loader = Loader::new().environment(variables);
    assert!(is_default(&loader));
    assert_eq!(loader.load("sessions").unwrap(), RedisConfig::default());
}

#[test]
fn another_programs_variable_may_stand_beside_ours() {
    let loader = environment(&[("REDIS_TLS", "true"), ("REDIS_USER", "x"), ("REDIS_SSL", "no")]);
    let error = loader.load_default().unwrap_err();
    assert_eq!(error.problems().len(), 1, "{error}");
    assert_eq!(error.problems()[0].field(), "user");
    assert!(is_default(&environment(&[("REDIS_TLS", "true"), ("REDIS_SSL", "no")])));
    assert_eq!(url(&environment(&[("REDIS_ADDR", "x:1"), ("REDIS_HOST", "h")])), "redis://h");
}

#[test]
fn configurations_share_defaults() {
    let files = Files::new([(
        "redis.yaml",
        "password: p\nsocket_timeout: 2\nclient_name: api\npreferred_replicas: [a]\naddress_map: {a: c}\ncache:\n  host: cache\n  socket_timeout: 250ms\n\
         sessions:\n  use_sentinel: yes\n  sentinel_hosts:\n  - [s1, 26379]\n  - s2:7000\n  address_map: {a: b}\n\
         empty:\n  password: ~\n  socket_timeout:\n  preferred_replicas: []\n  address_map: {}\n  client_name: ''\n",
    )]);
    let loader =
        environment(&[("REDIS_CACHE_DB", "3"), ("REDIS_CACHE_LOCAL_DB", "4")]).file(files.path("redis.yaml"));
    let load = |name: &str| loader.load(name).unwrap_or_else(|error| panic!("{error}")).url();
    let shared = "client_name=api&address_map=a%3Dc&preferred_replicas=a";
    assert_eq!(load("cache"), format!("redis://:p@cache/3?socket_timeout=250ms&{shared}"));
    let sessions = shared.replace("a%3Dc", "a%3Db");
    assert_eq!(load("sessions"), format!("redis+sentinel://:p@s1,s2:7000?socket_timeout=2s&{sessions}"));
    assert_eq!(load("empty"), "redis://localhost");
    assert_eq!(
        loader.load_default().unwrap().url(),
        format!("redis://:p@localhost?socket_timeout=2s&{shared}")
    );
    assert_eq!(loader.read_default().names().collect::<Vec<_>>(), ["cache", "empty", "sessions"]);
}

#[test]
fn names_of_configurations_may_begin_names_of_settings() {
    let files = Files::new([("redis.toml", "[max]\n[socket]\n[ssl-ca]\n")]);
    let variables = [
        ("REDIS_MAX_CONNECTIONS", "7"),
        ("REDIS_MAX_DB", "1"),
        ("REDIS_SOCKET_TIMEOUT", "1"),
        ("REDIS_SSL_CA_DB", "3"),
    ];
    let loader = environment(&variables).file(files.path("redis.toml"));
    let load = |name: &str| loader.load(name).unwrap_or_else(|error| panic!("{error}")).url();
    let shared = "max_connections=7&socket_timeout=1s";
    assert_eq!(load("max"), format!("redis://localhost/1?{shared}"));
    assert_eq!(load("socket"), format!("redis://localhost?{shared}"));
    assert_eq!(load("ssl-ca"), format!("redis://localhost/3?{shared}"));
    assert_eq!(url(&loader), format!("redis://localhost?{shared}"));
}

#[test]
fn a_mistake_in_one_configuration_is_not_anothers() {
    let files =
        Files::new([("redis.toml", "[cache]\nport = 0\n[sessions]\nport = 7000\n[cache-local]\ndb = 1\n")]);
    let variables = [("REDIS_CACHE_LOCAL_PORT", "0"), ("REDIS_CACHE_LOCAL_PROT", "1")];
    let loader = environment(&variables).file(files.path("redis.toml"));
    assert_eq!(loader.load("sessions").unwrap().port(), 7000);
    let fields = |name| {
        let error = loader.load(name).unwrap_err();
        error.problems().iter().map(|problem| problem.origin().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(fields("cache"), [format!("{}:2", files.path("redis.toml").display())]);
    assert_eq!(fields("cache-local"), ["REDIS_CACHE_LOCAL_PORT"]);
}

#[test]
fn values_are_texts_in_every_format() {
    for (file, text) in [
        (
            "redis.toml",
            "password = '0123'\nmax_in_flight_bytes = 0x10_0000\nsocket_timeout = 2.50\nprotocol = 3\nusername = 7\n",
        ),
        (
            "redis.yaml",
            "password: 0123\nmax_in_flight_bytes: 1048576\nsocket_timeout: 2.50\nprotocol: 3\nusername: 7\n",
        ),
        (
            "redis.json",
            r#"{"password": "0\u00312\u0033", "max_in_flight_bytes": 1048576, "socket_timeout": 2.50, "protocol": 3, "username": 7}"#,
        ),
    ] {
        let files = Files::new([(file, text)]);
        let expected =
            "redis://7:0123@localhost?protocol=resp3&socket_timeout=2500ms&max_in_flight_bytes=1048576";
        assert_eq!(url(&environment(&[]).file(files.path(file))), expected, "{file}");
    }
}

#[test]
fn the_file_is_named_by_the_code_or_a_variable() {
    let files = Files::new([
        ("a.toml", "db = 1"),
        ("b.json", r#"{"db": 2}"#),
        ("empty.yaml", "# nothing\n"),
        ("c.toml", ""),
    ]);
    let [a, b] = ["a.toml", "b.json"].map(|name| files.path(name).display().to_string());
    let loader = environment(&[("REDIS_CONFIG_FILE", &a)]);
    assert_eq!(loader.load_default().unwrap().db(), 1);
    assert_eq!(loader.clone().file(&b).load_default().unwrap().db(), 2);
    files.write(".env", &format!("REDIS_CONFIG_FILE={b}"));
    assert_eq!(loader.dotenv(files.path(".env")).load_default().unwrap().db(), 1);
    assert_eq!(environment(&[]).dotenv(files.path(".env")).load_default().unwrap().db(), 2);
    assert!(is_default(&environment(&[]).file(files.path("empty.yaml"))));
    assert!(is_default(&environment(&[]).file(files.path("c.toml"))));
    assert!(is_default(&environment(&[]).dotenv(files.path("none")).secrets_dir(files.path("none"))));
}

#[test]
fn files_of_kubernetes_are_skipped_in_a_folder_of_secrets() {
    let files = Files::new([
        ("secrets/..2026_11_26/password", "old"),
        ("secrets/.hidden", "x"),
        ("secrets/password", " pa ss \r\n"),
        ("secrets/tls.crt", "x"),
        ("secrets/other/host", "x"),
    ]);
    let loaded = environment(&[]).secrets_dir(files.path("secrets")).read_default();
    assert_eq!(loaded.config().unwrap().password(), Some(" pa ss "));
    assert_eq!(loaded.files().collect::<Vec<_>>(), [files.path("secrets"), files.path("secrets/password")]);
}

#[test]
fn changes_of_all_files_are_noticed() {
    let files = Files::new([("redis.toml", "db = 1"), ("secrets/password", "p"), ("user", "app")]);
    let user = files.path("user").display().to_string();
    let loader = environment(&[("REDIS_USERNAME_FILE", &user)])
        .file(files.path("redis.toml"))
        .secrets_dir(files.path("secrets"))
        .dotenv(files.path(".env"));
    let changes: [(&str, Option<&str>); 7] = [
        ("redis.toml", Some("db = 2")),
        ("redis.toml", Some("db = ")),
        ("redis.toml", None),
        ("secrets/password", Some("q")),
        ("secrets/host", Some("h")),
        ("user", Some("bpp")),
        (".env", Some("REDIS_DB=1")),
    ];
    for (file, text) in changes {
        let loaded = loader.read_default();
        assert!(!loaded.has_changed(), "{file}");
        match text {
            Some(text) => files.write(file, text),
            None => fs::remove_file(files.path(file)).unwrap(),
        }
        assert!(loaded.has_changed(), "{file}");
    }
    assert_eq!(loader.read_default().files().count(), 6);
}

#[test]
fn explanation_shows_values_and_sources() {
    let variables = [
        ("REDIS_SOCKET_TIMEOUT", "1.5"),
        ("REDIS_SESSIONS_PORT", "7000"),
        ("REDIS_HOST", "a b"),
        ("REDIS_SSL_CA_CERTS", "/ca"),
        ("REDIS_SENTINEL_SSL", "true"),
    ];
    let loaded = environment(&variables).set("password", SECRET).read("sessions");
    let table = loaded.explain().to_string();
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 1 + Setting::all().count());
    let names = Setting::all().map(|setting| setting.name().len()).max().unwrap();
    let sources = "as ssl_danger_accept_invalid_certs".len();
    for [name, source, value] in [
        ["setting", "source", "value"],
        ["host", "default", "localhost"],
        ["port", "REDIS_SESSIONS_PORT", "7000"],
        ["password", "code", "***"],
        ["socket_timeout", "REDIS_SOCKET_TIMEOUT", "1500ms"],
        ["call_timeout", "default", "none"],
        ["sentinel_ssl", "REDIS_SENTINEL_SSL", "true"],
        ["sentinel_ssl_ca_certs", "as ssl_ca_certs", "/ca"],
        ["sentinel_ssl_min_version", "as ssl_min_version", "1.2"],
        ["sentinel_ssl_keyfile", "as ssl_keyfile", "none"],
    ] {
        let line = format!("{name:names$}  {source:sources$}  {value}");
        assert!(lines.contains(&&*line), "{line}\n{table}");
    }
    assert!(loaded.config().is_err(), "the explanation shows what could be read");
}

#[test]
fn debug_shows_no_password() {
    let files = Files::new([("redis.toml", "password = 'hunter2secret'"), ("secrets/password", SECRET)]);
    let loader = environment(&[("REDIS_PASSWORD", SECRET), ("REDIS_PASSWORD_FILE", SECRET)])
        .file(files.path("redis.toml"))
        .secrets_dir(files.path("secrets"))
        .url("redis://:hunter2secret@host")
        .set("password", SECRET);
    let shown = format!("{loader:?} {:?} {}", loader.read_default(), loader.read_default().explain());
    assert!(!shown.contains(SECRET), "{shown}");
    assert!(shown.contains("redis.toml"), "{shown}");
}

#[test]
fn files_are_bounded_and_ordinary() {
    let files = Files::new([("redis.toml", &*format!("#{}", "x".repeat(1 << 20)))]);
    let reason = |path: &Path| {
        let error = environment(&[]).file(path).load_default().unwrap_err();
        error.problems()[0].allowed().to_owned()
    };
    assert_eq!(reason(&files.path("redis.toml")), "a readable file (larger than 1048576 bytes)");
    // Nothing in /dev is waited for.
    assert_eq!(reason(Path::new("/dev/zero")), "a readable file (not an ordinary file)");
}

#[cfg(unix)]
#[test]
fn variables_that_are_not_utf8_are_mistakes_only_if_they_are_settings() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    let bytes = OsString::from_vec(vec![b'a', 255]);
    let loader =
        Loader::new().environment([("REDIS_DATA".into(), bytes.clone()), (bytes.clone(), bytes.clone())]);
    assert!(is_default(&loader));
    let error = Loader::new().environment([("REDIS_PASSWORD", bytes)]).load_default().unwrap_err();
    let expected =
        "`password` from REDIS_PASSWORD: found <hidden>, expected UTF-8; encode the value in UTF-8";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn files_of_tls_are_named_and_not_read() {
    let key = "-----BEGIN PRIVATE KEY-----\nhunter2secret\n";
    let files = Files::new([("secrets/ssl_keyfile", key), ("secrets/ssl_certfile", "x"), ("ca.pem", "x")]);
    let [key, certificate, ca] =
        ["secrets/ssl_keyfile", "secrets/ssl_certfile", "ca.pem"].map(|name| files.path(name));
    let variables = [("REDIS_SSL", "true"), ("REDIS_SSL_CA_CERTS_FILE", ca.to_str().unwrap())];
    let loaded = environment(&variables).secrets_dir(files.path("secrets")).read_default();
    let config = loaded.config().unwrap();
    assert_eq!(config.ssl_keyfile(), Some(&*key));
    assert_eq!(config.ssl_certfile(), Some(&*certificate));
    assert_eq!(config.ssl_ca_certs(), Some(&*ca));
    let shown = format!("{loaded:?} {} {}", loaded.explain(), config.url());
    assert!(!shown.contains(SECRET), "{shown}");
}

#[test]
fn password_in_place_of_a_path_is_shown_nowhere() {
    for variable in ["REDIS_PASSWORD_FILE", "REDIS_URL_FILE", "REDIS_CONFIG_FILE"] {
        let loaded = environment(&[(variable, SECRET)]).read_default();
        if variable != "REDIS_CONFIG_FILE" {
            assert!(!format!("{loaded:?}").contains(SECRET), "{loaded:?}");
        }
        assert_eq!(loaded.files().count(), 0, "{variable}");
        assert!(!loaded.has_changed(), "{variable}");
    }
}

#[test]
fn variables_of_configurations_with_a_common_beginning() {
    let files = Files::new([("redis.toml", "[sessions]\n[sessions-max]\n[sessions-max-b]\n")]);
    let variables = [
        ("REDIS_SESSIONS_MAX_CONNECTIONS", "7"),
        ("REDIS_SESSIONS_MAX_DB", "1"),
        ("REDIS_SESSIONS_MAX_B_DB", "2"),
    ];
    let loader = environment(&variables).file(files.path("redis.toml"));
    let load = |name: &str| loader.load(name).unwrap_or_else(|error| panic!("{error}")).url();
    assert_eq!(load("sessions"), "redis://localhost?max_connections=7");
    assert_eq!(load("sessions-max"), "redis://localhost/1");
    assert_eq!(load("sessions-max-b"), "redis://localhost/2");
}

#[cfg(unix)]
#[test]
fn path_of_the_file_that_is_not_utf8_is_a_mistake() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    let path = OsString::from_vec(vec![b'a', 255]);
    let error = Loader::new().environment([("REDIS_CONFIG_FILE", path)]).load_default().unwrap_err();
    let expected = "`file` from REDIS_CONFIG_FILE: found <hidden>, expected a path in UTF-8; rename the file";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn secrets_of_other_programs_may_stand_beside_ours() {
    let others = ["tls", "user", "pass", "pasword", "password_file", "sessions_host"];
    let others = others.map(|name| format!("secrets/{name}"));
    let files = Files::new(others.iter().map(|name| (name.as_str(), "x")));
    assert!(is_default(&environment(&[]).secrets_dir(files.path("secrets"))));
    files.write("secrets/password", &format!("\u{feff}{SECRET}\r\n"));
    let config = environment(&[]).secrets_dir(files.path("secrets")).load_default().unwrap();
    assert_eq!(config.password(), Some(SECRET));
}

#[test]
fn switches_of_a_file_can_be_turned_off() {
    let files = Files::new([(
        "redis.toml",
        "ssl_ca_certs = '/ca.pem'\nssl = true\nuse_sentinel = true\nsentinel_hosts = ['s1']\n[cache]\nssl = false\n",
    )]);
    let load = |variables: &[(&str, &str)]| url(&environment(variables).file(files.path("redis.toml")));
    assert_eq!(load(&[("REDIS_SSL", "0")]), "redis+sentinel://s1");
    assert_eq!(load(&[("REDIS_SSL", "0"), ("REDIS_USE_SENTINEL", "0")]), "redis://localhost");
    assert_eq!(load(&[("REDIS_URL", "redis://h")]), "redis://h");
    assert_eq!(load(&[("REDIS_URL", "redis://h"), ("REDIS_SSL", "1")]), "rediss://h?ssl_ca_certs=%2Fca.pem");
    let cache = environment(&[]).file(files.path("redis.toml")).load("cache").unwrap();
    assert_eq!(cache.url(), "redis+sentinel://s1");
}
