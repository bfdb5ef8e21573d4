use super::*;

fn said(text: &str) -> Value {
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
        username: Some("ann".to_owned()),
        password: Some("pw".to_owned().into()),
        client_name: Some("svc".to_owned()),
        db: 2,
        role: true,
        settings: "",
    }
}

/// What becomes of a connection on which all is well but one reply.
fn refusing(handshake: &Handshake, protocol: Protocol, command: &str, reply: &str) -> Result<Answer, Error> {
    let names = packed(&handshake.commands(protocol));
    let place = names.iter().position(|name| name.starts_with(command)).unwrap();
    let mut replies = vec![Value::Okay; names.len()];
    if let Some(role) = names.iter().position(|name| name == "ROLE") {
        replies[role] = said("*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n");
    }
    replies[place] = said(reply);
    handshake.read(protocol, &replies)
}

fn ready(answer: Result<Answer, Error>) -> Greeting {
    match answer.unwrap() {
        Answer::Ready(greeting) => greeting,
        Answer::OnlyResp2(why) => panic!("{why}"),
    }
}

#[test]
fn one_round_trip_says_it_all() {
    let words = packed(&full().commands(Protocol::Resp3));
    assert_eq!(words, ["HELLO 3 AUTH ann pw SETNAME svc", "SELECT 2", "ROLE", "PING"]);
    let words = packed(&full().commands(Protocol::Resp2));
    assert_eq!(words, ["AUTH ann pw", "CLIENT SETNAME svc", "SELECT 2", "ROLE", "PING"]);
    assert_eq!(packed(&Handshake::default().commands(Protocol::Resp2)), ["PING"]);
}

#[test]
fn a_password_alone_is_the_default_users() {
    let handshake = Handshake { password: Some("pw".to_owned().into()), ..Handshake::default() };
    assert_eq!(packed(&handshake.commands(Protocol::Resp3)), ["HELLO 3 AUTH default pw", "PING"]);
    assert_eq!(packed(&handshake.commands(Protocol::Resp2)), ["AUTH pw", "PING"]);
}

#[test]
fn the_servers_role_is_what_role_says_or_else_hello() {
    let hello = "%1\r\n$4\r\nrole\r\n$7\r\nreplica\r\n";
    let greeting = ready(refusing(&full(), Protocol::Resp3, "HELLO", hello));
    assert_eq!(greeting.role, Some(Role::Master), "ROLE is asked later");
    let replies = [said(hello), Value::Okay, said("-NOPERM no\r\n"), said("+PONG\r\n")];
    let greeting = ready(full().read(Protocol::Resp3, &replies));
    assert_eq!(greeting.role, Some(Role::Replica));
}

#[test]
fn what_can_be_done_without_may_be_refused() {
    let refusals =
        ["-NOPERM User ann has no permissions\r\n", "-ERR unknown command 'X'\r\n", "-ERR not here\r\n"];
    for refusal in refusals {
        assert_eq!(ready(refusing(&full(), Protocol::Resp3, "ROLE", refusal)).role, None);
        ready(refusing(&full(), Protocol::Resp3, "PING", refusal));
        ready(refusing(&full(), Protocol::Resp2, "CLIENT", refusal));
    }
}

#[test]
fn a_database_that_cannot_be_had_will_not_be_had_later() {
    let refused = |refusal: &str| refusing(&full(), Protocol::Resp3, "SELECT", refusal).unwrap_err();
    let error = refused("-NOPERM User ann has no permissions to run the 'select' command\r\n");
    assert!(error.is_permission_denied() && error.to_string().contains("+select"), "{error}");
    for refusal in ["-ERR DB index is out of range\r\n", "-ERR unknown command 'SELECT'\r\n"] {
        let error = refused(refusal);
        assert!(error.is_config() && error.to_string().contains("`db` = 2"), "{error}");
    }
    assert!(refused("-BUSY Redis is busy running a script.\r\n").is_connection());
}

#[test]
fn an_old_server_is_spoken_to_in_resp2() {
    for refusal in ["-ERR unknown command `HELLO`, with args\r\n", "-NOPROTO sorry\r\n"] {
        let answer = refusing(&full(), Protocol::Resp3, "HELLO", refusal).unwrap();
        assert!(matches!(answer, Answer::OnlyResp2(_)), "{answer:?}");
    }
}

#[test]
fn a_wrong_password_is_told_apart_from_a_server_that_is_not_ready() {
    let read = |refusal: &str| full().read(Protocol::Resp3, &[said(refusal)]).unwrap_err();
    assert!(read("-WRONGPASS invalid username-password pair\r\n").is_authentication());
    assert!(read("-NOAUTH HELLO must be called authenticated\r\n").is_authentication());
    assert!(!read("-LOADING Redis is loading the dataset in memory\r\n").is_authentication());
    let error = read("-WRONGPASS invalid username-password pair\r\n").to_string();
    assert!(!error.contains("pw)") && error.contains("WRONGPASS"), "{error}");
}

#[test]
fn a_password_that_is_not_set_is_named() {
    let mut handshake = Handshake { settings: "sentinel_", ..Handshake::default() };
    for (protocol, command) in [(Protocol::Resp3, "HELLO"), (Protocol::Resp2, "PING")] {
        let noauth = "-NOAUTH Authentication required.\r\n";
        let error = refusing(&handshake, protocol, command, noauth).unwrap_err();
        assert!(error.is_authentication() && error.to_string().contains("`sentinel_password`"), "{error}");
    }
    handshake.db = 1;
    let error = refusing(&handshake, Protocol::Resp2, "SELECT", "-NOAUTH no\r\n").unwrap_err();
    assert!(error.is_authentication(), "{error}");
}
