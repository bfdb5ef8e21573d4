//! The handshake of a new connection: login, protocol, client name, database, and the role of the server.
//!
//! It is a list of [steps](Step), sent in one round trip. A user may lack the permission for most of them, and a
//! server or a proxy may not support them: each step defines what its refusal means.

use std::borrow::Cow;
use std::sync::Arc;

use redis::{Cmd, ServerError, Value, cmd};

use crate::credentials::{Credentials, DEFAULT_USER};
use crate::error::{Error, Kind, may_succeed_later, printable_error, verbatim};
use crate::peer_text::printable;
use crate::proto::role::{Role, hello_field, read_hello_role, read_role};
use crate::proto::secrets::Secrets;

/// How many bytes of a refusal are searched for passwords. A refusal may have a megabyte, and the search takes time.
const MAX_REFUSAL_BYTES: usize = 4 << 10;

/// The settings of a connection that are sent before it is used.
#[derive(Clone, Debug, Default)]
pub(crate) struct Handshake {
    pub(crate) credentials: Option<Arc<Credentials>>,
    /// Where the credentials come from, for errors.
    pub(crate) origin: Arc<str>,
    pub(crate) client_name: Option<String>,
    pub(crate) db: u32,
    /// Whether to query the server's role.
    pub(crate) role: bool,
    /// The prefix of the names of the settings: `sentinel_`, or nothing.
    pub(crate) settings: &'static str,
    /// The passwords that are hidden if the server repeats them.
    pub(crate) secrets: Secrets,
}

/// What the replies to a handshake reveal about the server.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// `None` if the server did not report it.
    pub(crate) role: Option<Role>,
    /// The server's ID of this connection, if it reported one.
    pub(crate) connection_id: Option<i64>,
    /// Whether the server is busy with a script, which may have come over another connection of this client.
    pub(crate) busy: bool,
}

/// The result of a whole handshake.
#[derive(Debug)]
pub(crate) enum Answer {
    Ready(Greeting),
    /// The server refuses HELLO, for this reason: repeat the handshake in RESP2.
    OnlyResp2(Error),
}

/// The form of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// For RESP3.
    Hello,
    /// For RESP2, without HELLO.
    Resp2,
    /// Like [`Form::Resp2`], without the optional steps.
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

/// One command of a handshake.
struct Step {
    command: Cmd,
    /// Whether the handshake can do without it.
    optional: bool,
    /// Returns what a refusal of this step means.
    refused: fn(&Handshake, &ServerError) -> Meaning,
    /// Stores what any other reply reveals.
    read: fn(&mut Greeting, &Value) -> Result<(), Error>,
}

/// What the refusal of a step means.
enum Meaning {
    /// The connection is usable.
    Optional,
    /// The connection is usable, and the server is busy with a script.
    Busy,
    /// The server needs a handshake in RESP2.
    OnlyResp2(Error),
    /// The connection is unusable.
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
    /// Returns the commands to send in one round trip.
    pub(crate) fn commands(&self, form: Form) -> Vec<Cmd> {
        self.steps(form).into_iter().map(|step| step.command).collect()
    }

    /// Reads the replies to [`Handshake::commands`], as many as have arrived.
    pub(crate) fn read(&self, form: Form, replies: &[Value]) -> Result<Answer, Error> {
        let mut greeting = Greeting::default();
        for (step, reply) in self.steps(form).iter().zip(replies) {
            let Value::ServerError(error) = reply else {
                (step.read)(&mut greeting, reply)?;
                continue;
            };
            match (step.refused)(self, error) {
                Meaning::Optional => {
                    let error = self.printable_refusal(error);
                    tracing::debug!(%error, "the server refused an optional step of the handshake");
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
            Form::Hello => vec![Step::needed(self.hello(), Self::hello_refused).reading(record_hello)],
            Form::Resp2 | Form::Bare => self.resp2_introduction(),
        };
        if self.db != 0 {
            steps.push(Step::needed(cmd("SELECT").arg(self.db).take(), Self::db_refused));
        }
        if self.role {
            steps.push(Step::optional(cmd("ROLE")).reading(record_role));
        }
        if form == Form::Bare {
            steps.retain(|step| !step.optional);
        }
        // Any reply shows that the server is alive. Calls that it refuses get its errors later.
        steps.push(Step::needed(cmd("PING"), Self::optional_refused));
        steps
    }

    fn hello(&self) -> Cmd {
        let mut hello = cmd("HELLO");
        hello.arg(3);
        if let Some(credentials) = &self.credentials {
            hello.arg("AUTH").arg(credentials.user()).arg(credentials.password());
        }
        if let Some(name) = &self.client_name {
            hello.arg("SETNAME").arg(name);
        }
        hello
    }

    fn resp2_introduction(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        if let Some(credentials) = &self.credentials {
            steps.push(Step::needed(login_command(credentials), Self::login_refused));
        }
        if let Some(name) = &self.client_name {
            steps.push(Step::optional(cmd("CLIENT").arg("SETNAME").arg(name).take()));
        }
        let client_id = cmd("CLIENT").arg("ID").take();
        steps.push(Step::optional(client_id).reading(record_connection_id));
        steps
    }
}

/// How refusals are interpreted.
impl Handshake {
    /// RESP2 is the fallback for any refusal of HELLO, whatever its wording, unless it is about the password or the
    /// server's state.
    fn hello_refused(&self, error: &ServerError) -> Meaning {
        match error.code() {
            "WRONGPASS" => self.login_refused(error),
            "NOAUTH" if self.credentials.is_none() => self.login_refused(error),
            _ if is_unavailable(error) => Meaning::Fatal(self.refused("HELLO", error)),
            _ => Meaning::OnlyResp2(self.refused("HELLO", error)),
        }
    }

    fn login_refused(&self, error: &ServerError) -> Meaning {
        let details = error.details().unwrap_or_default();
        let Self { settings, .. } = self;
        let refusal = self.printable_refusal(error);
        Meaning::Fatal(match error.code() {
            "NOAUTH" if self.credentials.is_none() => {
                let message = format!("the server requires a password: {refusal}; set `{settings}password`");
                Error::new(Kind::Authentication, message)
            }
            "WRONGPASS" | "NOAUTH" => self.wrong_password(&refusal),
            _ if is_unavailable(error) => self.refused("AUTH", error),
            _ if details.contains("password") => self.wrong_password(&refusal),
            _ if details.contains("wrong number of arguments") => {
                let message = format!(
                    "the server does not support user names: {refusal}; remove `{settings}username`, or use Redis 6 or later"
                );
                Error::new(Kind::Config, message)
            }
            _ => {
                let message =
                    format!("the server does not support passwords: {refusal}; remove `{settings}password`");
                Error::new(Kind::Config, message)
            }
        })
    }

    fn wrong_password(&self, refusal: &str) -> Error {
        let Self { origin, .. } = self;
        let user = self.user();
        let message =
            format!("the server refused the user name or password (user {user}, from {origin}): {refusal}");
        Error::new(Kind::Authentication, message)
    }

    /// Returns the user as errors name it.
    fn user(&self) -> String {
        printable(self.credentials.as_ref().map_or(DEFAULT_USER, |credentials| credentials.user()))
    }

    fn db_refused(&self, error: &ServerError) -> Meaning {
        let Self { db, .. } = self;
        let refusal = self.printable_refusal(error);
        Meaning::Fatal(match error.code() {
            "NOAUTH" => return self.login_refused(error),
            "NOPERM" => {
                let user = self.user();
                let message = format!(
                    "the user {user} may not run SELECT, which `db` = {db} needs: {refusal}; allow it (ACL SETUSER \
                     {user} +select), or use database 0"
                );
                Error::new(Kind::Permission, message)
            }
            _ if is_unavailable(error) => self.refused("SELECT", error),
            _ => {
                let message = format!("cannot select the database `db` = {db}: {refusal}; correct `db`");
                Error::new(Kind::Config, message)
            }
        })
    }

    fn optional_refused(&self, error: &ServerError) -> Meaning {
        match error.code() {
            "NOAUTH" => self.login_refused(error),
            "BUSY" => Meaning::Busy,
            _ if rejects_connections(error) => Meaning::Fatal(self.refused("a new connection", error)),
            _ => Meaning::Optional,
        }
    }

    fn refused(&self, command: &str, error: &ServerError) -> Error {
        self.hide_secrets(refused(command, error))
    }

    fn printable_refusal(&self, error: &ServerError) -> String {
        let text = verbatim(error);
        let max = MAX_REFUSAL_BYTES.min(text.len());
        let end = (0..=max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        printable(&self.secrets.hide(&text[..end]))
    }

    pub(crate) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Returns a peer's text without the passwords that it repeats.
    pub(crate) fn hide(&self, text: String) -> String {
        match self.secrets.hide(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(shown) => shown,
        }
    }

    /// Returns the error without the passwords that a server repeats in it.
    pub(crate) fn hide_secrets(&self, error: Error) -> Error {
        self.secrets.hide_in(error)
    }
}

fn record_hello(greeting: &mut Greeting, reply: &Value) -> Result<(), Error> {
    greeting.role = read_hello_role(reply);
    hello_field(reply, "id").map_or(Ok(()), |id| record_connection_id(greeting, id))
}

fn record_connection_id(greeting: &mut Greeting, reply: &Value) -> Result<(), Error> {
    if let Value::Int(id) = reply {
        greeting.connection_id = Some(*id);
    }
    Ok(())
}

fn record_role(greeting: &mut Greeting, reply: &Value) -> Result<(), Error> {
    greeting.role = Some(read_role(reply)?);
    Ok(())
}

/// Returns true if the server refused because of its state, or of the number of its clients, whatever the command.
fn is_unavailable(error: &ServerError) -> bool {
    may_succeed_later(error) || rejects_connections(error)
}

/// Returns true if the server rejected the connection before it read a command: it is full, or in protected mode.
fn rejects_connections(error: &ServerError) -> bool {
    let is_full = error.details().is_some_and(|details| details.starts_with("max number of clients"));
    is_full || error.code() == "DENIED"
}

/// Returns the command that logs a connection in.
pub(crate) fn login_command(credentials: &Credentials) -> Cmd {
    // Servers without user names only know the password of their single user.
    let username = credentials.username().filter(|name| *name != DEFAULT_USER);
    cmd("AUTH").arg(username).arg(credentials.password()).take()
}

pub(crate) fn refused(command: &str, error: &ServerError) -> Error {
    // Waiting does not help: somebody has to end the script.
    let kind = if error.code() == "BUSY" { Kind::Busy } else { Kind::Connect };
    Error::new(kind, format!("the server refused {command}: {}", printable_error(error)))
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
