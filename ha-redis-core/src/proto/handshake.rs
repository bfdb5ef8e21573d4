//! The first words on a connection: who we are, which protocol, which database, and what the server is.
//!
//! They are a list of [steps](Step), said all at once. A user may lack the permission for most of them, and a server or
//! a proxy may not know them: each step says itself what a refusal of it means.

use std::borrow::Cow;

use redis::{Cmd, ServerError, Value, cmd};

use crate::error::{Error, Kind, may_succeed_later, printable_error, verbatim};
use crate::peer_text::printable;
use crate::proto::role::{Role, hello_field, read_hello_role, read_role};
use crate::proto::secrets::Secrets;

/// The user of a password without a user name.
const DEFAULT_USER: &str = "default";

/// So many bytes of a refusal are looked at. It may have a megabyte, and looking for passwords takes a while.
const MAX_SAID: usize = 4 << 10;

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
    /// What is hidden where the server repeats it.
    pub(crate) secrets: Secrets,
}

/// What a server has said of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// `None` when it did not say.
    pub(crate) role: Option<Role>,
    /// The number by which it knows this connection, if it said so.
    pub(crate) connection_id: Option<i64>,
    /// Whether it is busy with a script, which may be one that came over another connection of this client.
    pub(crate) busy: bool,
}

/// What the server said to a whole handshake.
#[derive(Debug)]
pub(crate) enum Answer {
    Ready(Greeting),
    /// It does not take HELLO, for this reason: say it again in RESP2.
    OnlyResp2(Error),
}

/// The form in which a handshake is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// For RESP3.
    Hello,
    /// For RESP2, without HELLO.
    Resp2,
    /// As [`Form::Resp2`], and nothing is said that can be done without.
    Bare,
}

impl Form {
    pub(crate) fn simpler(self) -> Self {
        match self {
            Self::Hello => Self::Resp2,
            Self::Resp2 | Self::Bare => Self::Bare,
        }
    }
}

/// One thing that is said.
struct Step {
    command: Cmd,
    /// Whether it can be done without.
    optional: bool,
    /// What it means that the server refuses this.
    refused: fn(&Handshake, &ServerError) -> Meaning,
    /// Takes what any other reply says.
    read: fn(&mut Greeting, &Value) -> Result<(), Error>,
}

/// What the refusal of a step means.
enum Meaning {
    /// The connection is as good without.
    Optional,
    /// It is, too; and the server is busy with a script.
    Busy,
    /// The server is to be spoken to in RESP2.
    OnlyResp2(Error),
    /// The connection is of no use.
    Fatal(Error),
}

impl Step {
    fn needed(command: Cmd, refused: fn(&Handshake, &ServerError) -> Meaning) -> Self {
        Self { command, optional: false, refused, read: |_, _| Ok(()) }
    }

    fn optional(command: Cmd) -> Self {
        Self { optional: true, ..Self::needed(command, Handshake::optional_refused) }
    }

    fn reading(self, read: fn(&mut Greeting, &Value) -> Result<(), Error>) -> Self {
        Self { read, ..self }
    }
}

impl Handshake {
    /// The commands to send, all at once.
    pub(crate) fn commands(&self, form: Form) -> Vec<Cmd> {
        self.steps(form).into_iter().map(|step| step.command).collect()
    }

    /// Reads the replies to [`Handshake::commands`], as many as have come.
    pub(crate) fn read(&self, form: Form, replies: &[Value]) -> Result<Answer, Error> {
        let mut greeting = Greeting::default();
        for (step, reply) in self.steps(form).iter().zip(replies) {
            let Value::ServerError(error) = reply else {
                (step.read)(&mut greeting, reply)?;
                continue;
            };
            match (step.refused)(self, error) {
                Meaning::Optional => {
                    let error = self.said(error);
                    tracing::debug!(%error, "the server refuses what can be done without");
                }
                Meaning::Busy => greeting.busy = true,
                Meaning::OnlyResp2(why) => return Ok(Answer::OnlyResp2(why)),
                Meaning::Fatal(error) => return Err(error),
            }
        }
        Ok(Answer::Ready(greeting))
    }

    fn steps(&self, form: Form) -> Vec<Step> {
        let mut steps = match form {
            Form::Hello => vec![Step::needed(self.hello(), Self::hello_refused).reading(hear_hello)],
            Form::Resp2 | Form::Bare => self.resp2_introduction(),
        };
        if self.db != 0 {
            steps.push(Step::needed(cmd("SELECT").arg(self.db).take(), Self::db_refused));
        }
        if self.role {
            steps.push(Step::optional(cmd("ROLE")).reading(hear_role));
        }
        if form == Form::Bare {
            steps.retain(|step| !step.optional);
        }
        // Whatever it answers, it is there: what it refuses is told to whoever asks for it.
        steps.push(Step::needed(cmd("PING"), Self::optional_refused));
        steps
    }

    fn hello(&self) -> Cmd {
        let mut hello = cmd("HELLO");
        hello.arg(3);
        if let Some(password) = self.password() {
            hello.arg("AUTH").arg(self.username.as_deref().unwrap_or(DEFAULT_USER)).arg(password);
        }
        if let Some(name) = &self.client_name {
            hello.arg("SETNAME").arg(name);
        }
        hello
    }

    fn resp2_introduction(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        if let Some(password) = self.password() {
            // Servers that know no user names know their only user's password.
            let username = self.username.as_deref().filter(|name| *name != DEFAULT_USER);
            let login = cmd("AUTH").arg(username).arg(password).take();
            steps.push(Step::needed(login, Self::login_refused));
        }
        if let Some(name) = &self.client_name {
            steps.push(Step::optional(cmd("CLIENT").arg("SETNAME").arg(name).take()));
        }
        let client_id = cmd("CLIENT").arg("ID").take();
        steps.push(Step::optional(client_id).reading(hear_connection_id));
        steps
    }

    fn password(&self) -> Option<&str> {
        self.password.as_ref().map(secrecy::ExposeSecret::expose_secret)
    }
}

/// What refusals mean.
impl Handshake {
    /// However a refusal of HELLO is worded: where it is not about the password or the server's state, RESP2 does without.
    fn hello_refused(&self, error: &ServerError) -> Meaning {
        match error.code() {
            "WRONGPASS" => self.login_refused(error),
            "NOAUTH" if self.password.is_none() => self.login_refused(error),
            _ if turns_away(error) => Meaning::Fatal(self.refused("HELLO", error)),
            _ => Meaning::OnlyResp2(self.refused("HELLO", error)),
        }
    }

    fn login_refused(&self, error: &ServerError) -> Meaning {
        let details = error.details().unwrap_or_default();
        let Self { settings, .. } = self;
        let said = self.said(error);
        Meaning::Fatal(match error.code() {
            "NOAUTH" if self.password.is_none() => {
                let message = format!(
                    "it asks for a password, and none is set: {said}; give it with `{settings}password`"
                );
                Error::new(Kind::Authentication, message)
            }
            "WRONGPASS" | "NOAUTH" => wrong_password(&said),
            _ if turns_away(error) => self.refused("AUTH", error),
            _ if details.contains("password") => wrong_password(&said),
            _ if details.contains("wrong number of arguments") => {
                let message = format!(
                    "it knows no user names: {said}; leave `{settings}username` out, or use Redis 6 or later"
                );
                Error::new(Kind::Config, message)
            }
            _ => {
                let message = format!("it takes no password: {said}; leave `{settings}password` out");
                Error::new(Kind::Config, message)
            }
        })
    }

    fn db_refused(&self, error: &ServerError) -> Meaning {
        let Self { db, .. } = self;
        let said = self.said(error);
        Meaning::Fatal(match error.code() {
            "NOAUTH" => return self.login_refused(error),
            "NOPERM" => {
                let message = format!(
                    "its user may not run SELECT, which `db` = {db} needs: {said}; allow it (ACL SETUSER <user> \
                     +select), or use database 0"
                );
                Error::new(Kind::Permission, message)
            }
            _ if turns_away(error) => self.refused("SELECT", error),
            _ => {
                let message = format!("it does not SELECT the database of `db` = {db}: {said}; correct `db`");
                Error::new(Kind::Config, message)
            }
        })
    }

    fn optional_refused(&self, error: &ServerError) -> Meaning {
        match error.code() {
            "NOAUTH" => self.login_refused(error),
            "BUSY" => Meaning::Busy,
            _ if turns_clients_away(error) => Meaning::Fatal(self.refused("a new connection", error)),
            _ => Meaning::Optional,
        }
    }

    fn refused(&self, command: &str, error: &ServerError) -> Error {
        self.hide_secrets(refused(command, error))
    }

    fn said(&self, error: &ServerError) -> String {
        let said = verbatim(error);
        let end = (0..=MAX_SAID.min(said.len())).rev().find(|end| said.is_char_boundary(*end)).unwrap_or(0);
        printable(&self.secrets.hide(&said[..end]))
    }

    pub(crate) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// What a peer has said, without the passwords that it has repeated.
    pub(crate) fn hide(&self, said: String) -> String {
        match self.secrets.hide(&said) {
            Cow::Borrowed(_) => said,
            Cow::Owned(shown) => shown,
        }
    }

    /// The same error, without the passwords that a server has repeated in it.
    pub(crate) fn hide_secrets(&self, error: Error) -> Error {
        self.secrets.hide_in(error)
    }
}

fn hear_hello(greeting: &mut Greeting, reply: &Value) -> Result<(), Error> {
    greeting.role = read_hello_role(reply);
    hello_field(reply, "id").map_or(Ok(()), |id| hear_connection_id(greeting, id))
}

fn hear_connection_id(greeting: &mut Greeting, reply: &Value) -> Result<(), Error> {
    if let Value::Int(id) = reply {
        greeting.connection_id = Some(*id);
    }
    Ok(())
}

fn hear_role(greeting: &mut Greeting, reply: &Value) -> Result<(), Error> {
    greeting.role = Some(read_role(reply)?);
    Ok(())
}

/// Whether the server has refused for its state, or for that of all its clients, whatever it was asked.
fn turns_away(error: &ServerError) -> bool {
    may_succeed_later(error) || turns_clients_away(error)
}

/// Whether it has said so to the connection itself, before it has read a word: it is full, or in protected mode.
fn turns_clients_away(error: &ServerError) -> bool {
    let is_full = error.details().is_some_and(|details| details.starts_with("max number of clients"));
    is_full || error.code() == "DENIED"
}

fn wrong_password(said: &str) -> Error {
    Error::new(Kind::Authentication, format!("it refused the user name or password: {said}"))
}

pub(crate) fn refused(command: &str, error: &ServerError) -> Error {
    // Others than those who wait have to end that.
    let kind = if error.code() == "BUSY" { Kind::Busy } else { Kind::Connect };
    Error::new(kind, format!("it answered {command} with: {}", printable_error(error)))
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
