use proptest::prelude::*;

use super::*;
use crate::proto::written::{args, hostile_text, written};

fn value(text: &str) -> Value {
    redis::parse_redis_value(text.as_bytes()).unwrap()
}

fn packed(commands: &[Cmd]) -> Vec<String> {
    let words = |command: &Cmd| {
        let args = command.args_iter().map(|arg| match arg {
            redis::Arg::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => "?".to_owned(),
        });
        args.collect::<Vec<_>>().join(" ")
    };
    commands.iter().map(words).collect()
}

fn full() -> Handshake {
    Handshake {
        credentials: Some(Arc::new(Credentials::new("ann", "pw"))),
        origin: "`password`".into(),
        client_name: Some("svc".to_owned()),
        db: 2,
        role: true,
        settings: "",
        secrets: Secrets::new(["pw"]),
    }
}

/// Returns the result of a handshake in which all replies but one are good.
fn refusing(handshake: &Handshake, form: Form, command: &str, reply: &str) -> Result<Answer, Error> {
    let names = packed(&handshake.commands(form));
    let place = names.iter().position(|name| name.starts_with(command)).unwrap();
    let mut replies = vec![Value::Okay; names.len()];
    if let Some(role) = names.iter().position(|name| name == "ROLE") {
        replies[role] = value("*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n");
    }
    replies[place] = value(reply);
    handshake.read(form, &replies)
}

#[test]
fn unavailable_server_is_alive() {
    for (state, busy) in
        [("-LOADING wait\r\n", false), ("-MASTERDOWN no\r\n", false), ("-BUSY a script\r\n", true)]
    {
        assert_eq!(ready(refusing(&full(), Form::Hello, "PING", state)).busy, busy);
    }
}

fn ready(answer: Result<Answer, Error>) -> Greeting {
    match answer.unwrap() {
        Answer::Ready(greeting) => greeting,
        Answer::OnlyResp2(why) => panic!("{why}"),
    }
}

#[test]
fn handshake_commands() {
    let words = packed(&full().commands(Form::Hello));
    assert_eq!(words, ["HELLO 3 AUTH ann pw SETNAME svc", "SELECT 2", "ROLE", "PING"]);
    let words = packed(&full().commands(Form::Resp2));
    assert_eq!(words, ["AUTH ann pw", "CLIENT SETNAME svc", "CLIENT ID", "SELECT 2", "ROLE", "PING"]);
    assert_eq!(packed(&full().commands(Form::Bare)), ["AUTH ann pw", "SELECT 2", "PING"]);
    assert_eq!(packed(&Handshake::default().commands(Form::Resp2)), ["CLIENT ID", "PING"]);
}

#[test]
fn password_without_username_is_default_users() {
    for username in ["", "default"] {
        let credentials = Some(Arc::new(Credentials::new(username, "pw")));
        let handshake = Handshake { credentials, ..Handshake::default() };
        assert_eq!(packed(&handshake.commands(Form::Hello)), ["HELLO 3 AUTH default pw", "PING"]);
        assert_eq!(packed(&handshake.commands(Form::Resp2)), ["AUTH pw", "CLIENT ID", "PING"]);
    }
}

#[test]
fn role_from_role_command_or_hello() {
    let hello = "%1\r\n$4\r\nrole\r\n$7\r\nreplica\r\n";
    let greeting = ready(refusing(&full(), Form::Hello, "HELLO", hello));
    assert_eq!(greeting.role, Some(Role::Master), "ROLE comes later");
    let replies = [value(hello), Value::Okay, value("-NOPERM no\r\n"), value("+PONG\r\n")];
    let greeting = ready(full().read(Form::Hello, &replies));
    assert_eq!(greeting.role, Some(Role::Replica));
}

#[test]
fn optional_steps_may_be_refused() {
    let refusals =
        ["-NOPERM User ann has no permissions\r\n", "-ERR unknown command 'X'\r\n", "-ERR not here\r\n"];
    for refusal in refusals {
        assert_eq!(ready(refusing(&full(), Form::Hello, "ROLE", refusal)).role, None);
        ready(refusing(&full(), Form::Hello, "PING", refusal));
        ready(refusing(&full(), Form::Resp2, "CLIENT", refusal));
    }
}

#[test]
fn database_refusal_is_permanent() {
    let refused = |refusal: &str| refusing(&full(), Form::Hello, "SELECT", refusal).unwrap_err();
    let error = refused("-NOPERM User ann has no permissions to run the 'select' command\r\n");
    assert!(error.is_permission_denied() && error.to_string().contains("+select"), "{error}");
    for refusal in ["-ERR DB index is out of range\r\n", "-ERR unknown command 'SELECT'\r\n"] {
        let error = refused(refusal);
        assert!(error.is_config() && error.to_string().contains("`db` = 2"), "{error}");
    }
    assert!(refused("-BUSY Redis is busy running a script.\r\n").is_connection());
}

#[test]
fn any_hello_refusal_falls_back_to_resp2() {
    for refusal in
        ["-ERR unknown command `HELLO`, with args\r\n", "-NOPROTO sorry\r\n", "-NOAUTH no\r\n", "-ERR\r\n"]
    {
        let answer = refusing(&full(), Form::Hello, "HELLO", refusal).unwrap();
        assert!(matches!(answer, Answer::OnlyResp2(_)), "{answer:?}");
    }
    for refusal in
        ["-LOADING wait\r\n", "-ERR max number of clients reached\r\n", "-DENIED protected mode\r\n"]
    {
        let error = refusing(&full(), Form::Hello, "HELLO", refusal).unwrap_err();
        assert!(error.is_connection() && !error.is_authentication(), "{error}");
        let error = refusing(&full(), Form::Resp2, "AUTH", refusal).unwrap_err();
        assert!(error.is_connection() && !error.is_authentication(), "{error}");
    }
}

#[test]
fn auth_refusals_classified() {
    let refused = |refusal: &str| refusing(&full(), Form::Resp2, "AUTH", refusal).unwrap_err();
    for refusal in [
        "-WRONGPASS invalid username-password pair\r\n",
        "-ERR invalid password\r\n",
        "-ERR AUTH <password> called without any password configured for the default user.\r\n",
        "-ERR Client sent AUTH, but no password is set\r\n",
    ] {
        let error = refused(refusal);
        assert!(error.is_authentication() && !error.to_string().contains("pw)"), "{error}");
    }
    let error = refused("-ERR wrong number of arguments for 'auth' command\r\n");
    assert!(error.is_config() && error.to_string().contains("`username`"), "{error}");
    let error = refused("-ERR unknown command 'AUTH'\r\n");
    assert!(error.is_config() && error.to_string().contains("`password`"), "{error}");
    let wrong = refusing(&full(), Form::Hello, "HELLO", "-WRONGPASS invalid pair\r\n").unwrap_err();
    assert!(wrong.is_authentication() && wrong.to_string().contains("WRONGPASS"), "{wrong}");
}

#[test]
fn missing_password_setting_named() {
    let mut handshake = Handshake { settings: "sentinel_", ..Handshake::default() };
    for (form, command) in [(Form::Hello, "HELLO"), (Form::Resp2, "PING")] {
        let noauth = "-NOAUTH Authentication required.\r\n";
        let error = refusing(&handshake, form, command, noauth).unwrap_err();
        assert!(error.is_authentication() && error.to_string().contains("`sentinel_password`"), "{error}");
    }
    handshake.db = 1;
    let error = refusing(&handshake, Form::Resp2, "SELECT", "-NOAUTH no\r\n").unwrap_err();
    assert!(error.is_authentication(), "{error}");
}

/// A subscriber that stores the text of all events.
#[derive(Clone, Default)]
struct Log(std::sync::Arc<std::sync::Mutex<String>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = self.0.lock().unwrap();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            text.push_str(&format!("{field}={value:?} "));
        });
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn repeated_password_hidden_in_errors_and_logs() {
    let secret = "hunter2secret";
    let handshake = Handshake {
        credentials: Some(Arc::new(Credentials::password_only(secret))),
        secrets: Secrets::new([secret, "sentinels"]),
        ..full()
    };
    let log = Log::default();
    let refusals = [
        "-ERR invalid password 'hunter2secret'",
        "-WRONGPASS hunter2secret",
        "-hunter2secret no",
        "-LOADING hunter2secret",
        "-NOPERM hunter2secret",
        "-ERR max number of clients hunter2secret",
        "-DENIED sentinels",
    ];
    tracing::subscriber::with_default(log.clone(), || {
        for refusal in refusals {
            for (form, command) in [
                (Form::Hello, "HELLO"),
                (Form::Hello, "SELECT"),
                (Form::Hello, "ROLE"),
                (Form::Hello, "PING"),
                (Form::Resp2, "AUTH"),
                (Form::Resp2, "CLIENT SETNAME"),
                (Form::Resp2, "CLIENT ID"),
            ] {
                let result = format!("{:?}", refusing(&handshake, form, command, &format!("{refusal}\r\n")));
                assert!(!result.contains(secret) && !result.contains("sentinels"), "{command}: {result}");
            }
        }
    });
    let log = log.0.lock().unwrap();
    assert!(log.contains("optional step") && !log.contains(secret), "{log}");
}

#[test]
fn long_refusal_is_cut() {
    let handshake = Handshake { secrets: Secrets::new(["hunter2secret"]), ..full() };
    let refusal = |repeats| format!("-ERR é{} the end\r\n", "hunter2secret".repeat(repeats));
    let result = |repeats| format!("{:?}", refusing(&handshake, Form::Hello, "SELECT", &refusal(repeats)));
    assert!(result(1).contains("é*** the end"), "{}", result(1));
    assert!(result(50_000).contains("é***") && !result(50_000).contains("the end"), "{}", result(50_000));
}

proptest! {
    #[test]
    fn any_setting_stays_in_its_argument(
        username in prop::option::of(hostile_text()),
        password in hostile_text(),
        name in hostile_text(),
        db in any::<u32>(),
    ) {
        let username = username.filter(|name| !name.is_empty());
        let credentials = match &username {
            Some(name) => Credentials::new(name, &password),
            None => Credentials::password_only(&password),
        };
        let handshake = Handshake {
            credentials: Some(Arc::new(credentials)),
            client_name: Some(name.clone()),
            db,
            ..full()
        };
        let (db, user) = (db.to_string(), username.as_deref().unwrap_or("default"));
        let select = args(["SELECT", &db]);
        let mut hello = vec![args(["HELLO", "3", "AUTH", user, &password, "SETNAME", &name])];
        let login = if user == "default" { args(["AUTH", &password]) } else { args(["AUTH", user, &password]) };
        let mut resp2 = vec![login, args(["CLIENT", "SETNAME", &name]), args(["CLIENT", "ID"])];
        for commands in [&mut hello, &mut resp2] {
            commands.extend((db != "0").then(|| select.clone()));
            commands.extend([args(["ROLE"]), args(["PING"])]);
        }
        prop_assert_eq!(written(&handshake.commands(Form::Hello)), hello);
        prop_assert_eq!(written(&handshake.commands(Form::Resp2)), resp2);
    }
}
