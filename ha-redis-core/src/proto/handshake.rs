//! The first words on a connection: who we are, which protocol, which database, and what the server is.

use std::fmt;

use redis::{Cmd, ServerError, Value, cmd};

use crate::error::{Error, Kind};

/// What a connection is to be before anyone uses it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Handshake {
    pub(crate) username: Option<String>,
    pub(crate) password: Option<secrecy::SecretString>,
    pub(crate) client_name: Option<String>,
    pub(crate) db: u32,
    /// Whether to ask for the server's role.
    pub(crate) role: bool,
}

/// A server's own account of its part in replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// It takes writes.
    Master,
    /// It follows a master.
    Replica,
    /// It is a Sentinel, and holds no data.
    Sentinel,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "master",
            Self::Replica => "replica",
            Self::Sentinel => "Sentinel",
        })
    }
}

/// What the server said to a whole handshake.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Ready {
        role: Option<Role>,
    },
    /// It is ready, but this user may not ask it for its role by ROLE, or it knows that by another name.
    NoRole,
    /// It does not know HELLO: say it again in RESP2.
    OnlyResp2,
}

/// The protocol in which a handshake is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Resp3,
    Resp2,
}

impl Handshake {
    /// The commands to send, all at once.
    pub(crate) fn commands(&self, protocol: Protocol) -> Vec<Cmd> {
        let mut commands = match protocol {
            Protocol::Resp3 => vec![self.hello()],
            Protocol::Resp2 => self.resp2_introduction(),
        };
        if self.db != 0 {
            commands.push(cmd("SELECT").arg(self.db).take());
        }
        if self.role {
            commands.push(cmd("ROLE"));
        }
        // A server that is loading, or a replica that has lost its master, answers HELLO but serves nobody.
        commands.push(cmd("PING"));
        commands
    }

    fn hello(&self) -> Cmd {
        let mut hello = cmd("HELLO");
        hello.arg(3);
        if let Some(password) = self.password() {
            hello.arg("AUTH").arg(self.username.as_deref().unwrap_or("default")).arg(password);
        }
        if let Some(name) = &self.client_name {
            hello.arg("SETNAME").arg(name);
        }
        hello
    }

    fn resp2_introduction(&self) -> Vec<Cmd> {
        let mut commands = Vec::new();
        if let Some(password) = self.password() {
            commands.push(cmd("AUTH").arg(self.username.as_deref()).arg(password).take());
        }
        if let Some(name) = &self.client_name {
            commands.push(cmd("CLIENT").arg("SETNAME").arg(name).take());
        }
        commands
    }

    fn password(&self) -> Option<&str> {
        self.password.as_ref().map(secrecy::ExposeSecret::expose_secret)
    }

    /// Reads the replies to [`Handshake::commands`].
    pub(crate) fn read(&self, protocol: Protocol, replies: Vec<Value>) -> Result<Answer, Error> {
        let mut role = None;
        let mut no_role = false;
        for (command, reply) in self.commands(protocol).iter().zip(replies) {
            let name = name(command);
            match reply {
                Value::ServerError(error) if name == "HELLO" && knows_no_hello(&error) => {
                    return Ok(Answer::OnlyResp2);
                }
                // Sentinels keep no database and answer what they do not know with an error.
                Value::ServerError(error) if name == "CLIENT" => {
                    tracing::debug!(%error, "the server does not take the client's name");
                }
                Value::ServerError(error) if name == "ROLE" && may_not(&error) => no_role = true,
                Value::ServerError(error) => return Err(refused(&name, &error)),
                reply if name == "ROLE" => role = Some(read_role(&reply)?),
                _ => {}
            }
        }
        Ok(if no_role { Answer::NoRole } else { Answer::Ready { role } })
    }
}

fn name(command: &Cmd) -> String {
    match command.args_iter().next() {
        Some(redis::Arg::Simple(name)) => String::from_utf8_lossy(name).into_owned(),
        _ => String::new(),
    }
}

fn knows_no_hello(error: &ServerError) -> bool {
    is_unknown(error) || error.code() == "NOPROTO"
}

/// Whether a command is refused for itself, and not for the server's state.
pub(crate) fn may_not(error: &ServerError) -> bool {
    is_unknown(error) || error.code() == "NOPERM"
}

fn is_unknown(error: &ServerError) -> bool {
    error.code() == "ERR"
        && error.details().is_some_and(|details| details.to_ascii_lowercase().starts_with("unknown command"))
}

fn refused(command: &str, error: &ServerError) -> Error {
    let said = format!("{} {}", error.code(), error.details().unwrap_or_default());
    let said = said.trim_end();
    let about_password = error.details().is_some_and(|details| details.contains("AUTH"));
    match error.code() {
        "NOPERM" => Error::new(Kind::Authentication, format!("its user may not run {command}: {said}")),
        "WRONGPASS" | "NOAUTH" => {
            Error::new(Kind::Authentication, format!("it refused the user name or password: {said}"))
        }
        "ERR" if command == "AUTH" || (command == "HELLO" && about_password) => {
            Error::new(Kind::Authentication, format!("it refused the user name or password: {said}"))
        }
        _ => Error::new(Kind::Connect, format!("it answered {command} with: {said}")),
    }
}

/// Reads the reply to ROLE.
pub(crate) fn read_role(reply: &Value) -> Result<Role, Error> {
    let Value::Array(parts) = reply else { return Err(no_role(reply)) };
    match parts.first() {
        Some(Value::BulkString(role)) if role == b"master" => Ok(Role::Master),
        Some(Value::BulkString(role)) if role == b"slave" => Ok(Role::Replica),
        Some(Value::BulkString(role)) if role == b"sentinel" => Ok(Role::Sentinel),
        _ => Err(no_role(reply)),
    }
}

/// Reads the role out of the reply to `INFO replication`.
pub(crate) fn read_info_role(reply: &Value) -> Result<Role, Error> {
    let said = match reply {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::VerbatimString { text, .. } => text.clone(),
        Value::ServerError(error) => {
            return Err(refused("INFO replication, which it was asked for want of ROLE,", error));
        }
        reply => return Err(no_role(reply)),
    };
    match said.lines().find_map(|line| line.trim_end().strip_prefix("role:")) {
        Some("master") => Ok(Role::Master),
        Some("slave") => Ok(Role::Replica),
        _ => Err(no_role(reply)),
    }
}

fn no_role(reply: &Value) -> Error {
    Error::new(Kind::Protocol, format!("it was asked for its role, and answered what is none: {reply:?}"))
}

#[cfg(test)]
mod tests {
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
    fn the_servers_role_is_read() {
        let handshake = Handshake { role: true, ..Handshake::default() };
        let role = |reply: &str| {
            let replies = vec![Value::Map(vec![]), said(reply), said("+PONG\r\n")];
            handshake.read(Protocol::Resp3, replies)
        };
        let master = "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n";
        assert_eq!(role(master).unwrap(), Answer::Ready { role: Some(Role::Master) });
        assert_eq!(role("*1\r\n$5\r\nslave\r\n").unwrap(), Answer::Ready { role: Some(Role::Replica) });
        assert!(role("*1\r\n$5\r\nqueen\r\n").unwrap_err().is_protocol());
        assert!(role(":1\r\n").unwrap_err().is_protocol());
    }

    #[test]
    fn where_role_is_refused_info_tells_it() {
        let handshake = Handshake { role: true, ..Handshake::default() };
        for refusal in ["-NOPERM this user has no permissions\r\n", "-ERR unknown command 'ROLE'\r\n"] {
            let replies = || vec![Value::Map(vec![]), said(refusal)];
            let answer = handshake.read(Protocol::Resp3, [replies(), vec![said("+PONG\r\n")]].concat());
            assert_eq!(answer.unwrap(), Answer::NoRole);
            let loading = [replies(), vec![said("-LOADING wait\r\n")]].concat();
            assert!(handshake.read(Protocol::Resp3, loading).is_err());
        }
        let info = |text: &str| read_info_role(&Value::BulkString(text.into()));
        assert_eq!(info("# Replication\r\nrole:master\r\nconnected_slaves:0\r\n").unwrap(), Role::Master);
        assert_eq!(info("# Replication\r\nrole:slave\r\n").unwrap(), Role::Replica);
        assert!(info("# Replication\r\n").unwrap_err().is_protocol());
        let error = read_info_role(&said("-NOPERM this user has no permissions\r\n")).unwrap_err();
        assert!(error.is_authentication(), "{error}");
    }

    #[test]
    fn an_old_server_is_spoken_to_in_resp2() {
        for refusal in ["-ERR unknown command `HELLO`, with args\r\n", "-NOPROTO sorry\r\n"] {
            let answer = Handshake::default().read(Protocol::Resp3, vec![said(refusal), said("+PONG\r\n")]);
            assert_eq!(answer.unwrap(), Answer::OnlyResp2);
        }
    }

    #[test]
    fn a_wrong_password_is_told_apart_from_a_server_that_is_not_ready() {
        let read = |refusal: &str| full().read(Protocol::Resp3, vec![said(refusal)]).unwrap_err();
        assert!(read("-WRONGPASS invalid username-password pair\r\n").is_authentication());
        assert!(read("-NOAUTH HELLO must be called authenticated\r\n").is_authentication());
        assert!(!read("-LOADING Redis is loading the dataset in memory\r\n").is_authentication());
        let error = read("-WRONGPASS invalid username-password pair\r\n").to_string();
        assert!(!error.contains("pw)") && error.contains("WRONGPASS"), "{error}");
    }
}
