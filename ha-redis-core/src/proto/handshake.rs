//! The first words on a connection: who we are, which protocol, which database, and what the server is.
//!
//! They are a list of [steps](Step), said all at once. A user may lack the permission for most of them, and a server or
//! a proxy may not know them: each step says itself what a refusal of it means.

use redis::{Cmd, ServerError, Value, cmd};

use crate::error::{Error, Kind};
use crate::proto::role::{Role, read_hello_role, read_role};

/// What a connection is to be before anyone uses it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Handshake {
    pub(crate) username: Option<String>,
    pub(crate) password: Option<secrecy::SecretString>,
    pub(crate) client_name: Option<String>,
    pub(crate) db: u32,
    /// Whether to ask for the server's role.
    pub(crate) role: bool,
    /// What the names of its settings begin with: `sentinel_`, or nothing.
    pub(crate) settings: &'static str,
}

/// What a server has said of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// `None` when it did not say.
    pub(crate) role: Option<Role>,
}

/// What the server said to a whole handshake.
#[derive(Debug)]
pub(crate) enum Answer {
    Ready(Greeting),
    /// It does not take HELLO, for this reason: say it again in RESP2.
    OnlyResp2(Error),
}

/// The protocol in which a handshake is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Resp3,
    Resp2,
}

/// One thing that is said.
struct Step {
    command: Cmd,
    /// What it means that the server refuses this.
    refused: fn(&Handshake, &ServerError) -> Meaning,
    /// Takes what any other reply says.
    read: fn(&mut Greeting, &Value) -> Result<(), Error>,
}

/// What the refusal of a step means.
enum Meaning {
    /// The connection is as good without.
    Optional,
    /// The server is to be spoken to in RESP2.
    OnlyResp2(Error),
    /// The connection is of no use.
    Fatal(Error),
}

impl Step {
    fn new(command: Cmd, refused: fn(&Handshake, &ServerError) -> Meaning) -> Self {
        Self { command, refused, read: |_, _| Ok(()) }
    }

    fn reading(self, read: fn(&mut Greeting, &Value) -> Result<(), Error>) -> Self {
        Self { read, ..self }
    }
}

impl Handshake {
    /// The commands to send, all at once.
    pub(crate) fn commands(&self, protocol: Protocol) -> Vec<Cmd> {
        self.steps(protocol).into_iter().map(|step| step.command).collect()
    }

    /// Reads the replies to [`Handshake::commands`], as many as have come.
    pub(crate) fn read(&self, protocol: Protocol, replies: &[Value]) -> Result<Answer, Error> {
        let mut greeting = Greeting::default();
        for (step, reply) in self.steps(protocol).iter().zip(replies) {
            let Value::ServerError(error) = reply else {
                (step.read)(&mut greeting, reply)?;
                continue;
            };
            match (step.refused)(self, error) {
                Meaning::Optional => tracing::debug!(%error, "the server refuses what can be done without"),
                Meaning::OnlyResp2(why) => return Ok(Answer::OnlyResp2(why)),
                Meaning::Fatal(error) => return Err(error),
            }
        }
        Ok(Answer::Ready(greeting))
    }

    fn steps(&self, protocol: Protocol) -> Vec<Step> {
        let mut steps = match protocol {
            Protocol::Resp3 => vec![Step::new(self.hello(), Self::hello_refused).reading(hear_hello)],
            Protocol::Resp2 => self.resp2_introduction(),
        };
        if self.db != 0 {
            steps.push(Step::new(cmd("SELECT").arg(self.db).take(), Self::db_refused));
        }
        if self.role {
            steps.push(Step::new(cmd("ROLE"), Self::optional).reading(hear_role));
        }
        // A server that is loading, or a replica that has lost its master, answers HELLO but serves nobody.
        steps.push(Step::new(cmd("PING"), Self::ping_refused));
        steps
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

    fn resp2_introduction(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        if let Some(password) = self.password() {
            let login = cmd("AUTH").arg(self.username.as_deref()).arg(password).take();
            steps.push(Step::new(login, Self::login_refused));
        }
        if let Some(name) = &self.client_name {
            steps.push(Step::new(cmd("CLIENT").arg("SETNAME").arg(name).take(), Self::optional));
        }
        steps
    }

    fn password(&self) -> Option<&str> {
        self.password.as_ref().map(secrecy::ExposeSecret::expose_secret)
    }
}

/// What refusals mean.
impl Handshake {
    fn hello_refused(&self, error: &ServerError) -> Meaning {
        match error.code() {
            "NOPROTO" => Meaning::OnlyResp2(refused("HELLO", error)),
            "ERR" if is_unknown(error) => Meaning::OnlyResp2(refused("HELLO", error)),
            _ => self.login_refused(error),
        }
    }

    fn login_refused(&self, error: &ServerError) -> Meaning {
        let about_password =
            error.details().is_some_and(|text| text.contains("AUTH") || text.contains("password"));
        Meaning::Fatal(match error.code() {
            "NOAUTH" if self.password.is_none() => self.password_missing(error),
            "WRONGPASS" | "NOAUTH" => wrong_password(error),
            "ERR" if about_password => wrong_password(error),
            _ => refused("AUTH", error),
        })
    }

    fn db_refused(&self, error: &ServerError) -> Meaning {
        let Self { db, .. } = self;
        let said = said(error);
        Meaning::Fatal(match error.code() {
            "NOAUTH" => return self.login_refused(error),
            "NOPERM" => {
                let message = format!(
                    "its user may not run SELECT, which `db` = {db} needs: {said}; allow it (ACL SETUSER <user> \
                     +select), or use database 0"
                );
                Error::new(Kind::Permission, message)
            }
            _ if will_pass(error) => refused("SELECT", error),
            _ => {
                let message = format!("it does not SELECT the database of `db` = {db}: {said}; correct `db`");
                Error::new(Kind::Config, message)
            }
        })
    }

    fn ping_refused(&self, error: &ServerError) -> Meaning {
        match error.code() {
            "LOADING" | "MASTERDOWN" => Meaning::Fatal(refused("PING", error)),
            _ => self.optional(error),
        }
    }

    fn optional(&self, error: &ServerError) -> Meaning {
        match error.code() {
            "NOAUTH" => self.login_refused(error),
            _ => Meaning::Optional,
        }
    }

    fn password_missing(&self, error: &ServerError) -> Error {
        let message = format!(
            "it asks for a password, and none is set: {}; give it with `{}password`",
            said(error),
            self.settings
        );
        Error::new(Kind::Authentication, message)
    }
}

fn hear_hello(greeting: &mut Greeting, reply: &Value) -> Result<(), Error> {
    greeting.role = read_hello_role(reply);
    Ok(())
}

fn hear_role(greeting: &mut Greeting, reply: &Value) -> Result<(), Error> {
    greeting.role = Some(read_role(reply)?);
    Ok(())
}

/// Whether a server that refuses a command may take it soon. Otherwise this user may not run it, or the server does not
/// know it: how that is said differs from server to server.
pub(crate) fn will_pass(error: &ServerError) -> bool {
    let passing = ["LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "OOM"];
    passing.contains(&error.code())
}

fn is_unknown(error: &ServerError) -> bool {
    error.details().is_some_and(|details| details.to_ascii_lowercase().starts_with("unknown command"))
}

fn wrong_password(error: &ServerError) -> Error {
    let message = format!("it refused the user name or password: {}", said(error));
    Error::new(Kind::Authentication, message)
}

fn refused(command: &str, error: &ServerError) -> Error {
    Error::new(Kind::Connect, format!("it answered {command} with: {}", said(error)))
}

/// A server's error in its own words.
pub(crate) fn said(error: &ServerError) -> String {
    format!("{} {}", error.code(), error.details().unwrap_or_default()).trim_end().to_owned()
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
