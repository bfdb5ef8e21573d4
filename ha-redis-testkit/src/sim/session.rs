//! The server's side of a connection. It parses commands and runs them in order.

use std::io;
use std::time::Duration;

use super::host::Host;
use super::network::ConnectionId;
use super::reply;
use super::world::{Event, World};
use crate::resp::read_command;

pub(super) struct Session {
    pub(super) host: Host,
    /// The client's id and name on the server.
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) opened: Duration,
    inbox: Vec<u8>,
    /// The commands between MULTI and EXEC.
    pub(super) queued: Option<Vec<Vec<String>>>,
    /// Whether one of them was refused.
    pub(super) discarded: bool,
    /// The number of the wait that blocks the client, if it is blocked.
    blocked: Option<u64>,
    pub(super) subscribed: bool,
    /// Whether a hostile peer has begun an endless reply.
    pub(super) attacked: bool,
    /// After how many commands the connection turns bad, if it does.
    pub(super) commands_until_bad: Option<u32>,
    /// Whether the client has learned on this connection that the server is a replica.
    pub(super) is_replica: bool,
}

/// The response to a command.
pub(super) enum Response {
    Reply(Vec<u8>),
    /// A null reply after this time.
    NilAfter(Duration),
}

impl From<Vec<u8>> for Response {
    fn from(reply: Vec<u8>) -> Self {
        Self::Reply(reply)
    }
}

impl World {
    pub(super) fn open_session(&mut self, number: ConnectionId, host: Host) {
        let session = Session {
            host,
            id: self.next_client_id(host),
            name: String::new(),
            opened: self.now(),
            inbox: Vec::new(),
            queued: None,
            discarded: false,
            blocked: None,
            subscribed: false,
            attacked: false,
            commands_until_bad: self.commands_until_bad(host),
            is_replica: false,
        };
        self.sessions.insert(number, session);
    }

    pub(super) fn close_session(&mut self, number: ConnectionId) {
        self.sessions.remove(&number);
    }

    pub(super) fn on_bytes(&mut self, number: ConnectionId, bytes: &[u8]) {
        self.watch_bytes(number, bytes);
        if let Some(session) = self.sessions.get_mut(&number) {
            session.inbox.extend_from_slice(bytes);
            self.serve(number);
        }
    }

    /// Runs the commands that have arrived completely.
    pub(super) fn serve(&mut self, number: ConnectionId) {
        let mut out = Vec::new();
        while let Some(session) = self.sessions.get_mut(&number)
            && session.blocked.is_none()
            && self.processes[session.host.index() - 1] == super::world::Process::Up
        {
            let host = session.host;
            let mut rest = &session.inbox[..];
            let command = match read_command(&mut rest) {
                Ok(command) => command,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => {
                    self.history.violation(format!("{host} received invalid RESP: {error}"));
                    self.finish(number);
                    return;
                }
            };
            let read = session.inbox.len() - rest.len();
            session.inbox.drain(..read);
            self.count_command(number);
            let misbehavior = self.misbehavior_on(number, host);
            let response = match host {
                _ if let Some(misbehavior) = misbehavior => {
                    self.hostile_command(misbehavior, number, &command)
                }
                Host::Sentinel(sentinel) => self.sentinel_command(sentinel, number, &command).into(),
                Host::Redis(server) => self.redis_command(server, number, command),
                Host::Client | Host::Attacker => return,
            };
            match response {
                Response::Reply(bytes) => out.extend(bytes),
                Response::NilAfter(wait) => {
                    self.waits += 1;
                    let begun = self.waits;
                    if let Some(session) = self.sessions.get_mut(&number) {
                        session.blocked = Some(begun);
                    }
                    self.after(wait, Event::Unblock(number, begun));
                }
            }
        }
        self.reply(number, out);
    }

    /// Ends a wait that has timed out.
    pub(super) fn on_unblock(&mut self, number: ConnectionId, begun: u64) {
        if self.sessions.get(&number).is_some_and(|session| session.blocked == Some(begun)) {
            self.unblock(number, reply::nil());
        }
    }

    /// Unblocks all clients of a server that becomes a replica.
    pub(super) fn unblock_all(&mut self, server: usize) {
        for number in self.connections_of(Host::Redis(server)) {
            if self.sessions.get(&number).is_some_and(|session| session.blocked.is_some()) {
                self.history.discard_wait(number);
                let error = "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";
                self.unblock(number, reply::error(error));
            }
        }
    }

    fn unblock(&mut self, number: ConnectionId, response: Vec<u8>) {
        if let Some(session) = self.sessions.get_mut(&number) {
            session.blocked = None;
            self.reply(number, response);
            self.serve(number);
        }
    }
}
