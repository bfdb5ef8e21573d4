//! A server's list of its clients: ids, names, and CLIENT KILL.

use super::host::Host;
use super::network::ConnectionId;
use super::permissions::Hello;
use super::reply;
use super::session::Session;
use super::world::World;

impl World {
    /// Returns the id of the server's next client. Each process counts its own.
    pub(super) fn next_client_id(&mut self, host: Host) -> u64 {
        let next = &mut self.client_ids[host.index() - 1];
        *next += 1;
        *next
    }

    /// Answers HELLO, which may set the client's name.
    pub(super) fn hello(&mut self, number: ConnectionId, args: &[&str]) -> Vec<u8> {
        if self.behavior.hello == Hello::Closed {
            self.finish(number);
            return Vec::new();
        }
        let named = args.iter().position(|arg| arg.eq_ignore_ascii_case("SETNAME"));
        let name = named.and_then(|at| args.get(at + 1));
        let Some(session) = self.sessions.get_mut(&number) else { return Vec::new() };
        if let Some(name) = name {
            session.name = (*name).to_owned();
        }
        reply::hello(session.id)
    }

    /// Answers CLIENT.
    pub(super) fn client_command(&mut self, number: ConnectionId, args: &[&str]) -> Vec<u8> {
        let Some(session) = self.sessions.get_mut(&number) else { return Vec::new() };
        let host = session.host;
        let subcommand = args.first().map(|subcommand| subcommand.to_ascii_uppercase()).unwrap_or_default();
        match (&*subcommand, &args[1.min(args.len())..]) {
            ("ID", []) => reply::integer(session.id as i64),
            ("SETNAME", [name]) => {
                session.name = (*name).to_owned();
                reply::status("OK")
            }
            ("LIST", []) => self.list_clients(host, |_| true),
            ("LIST", [by, ids @ ..]) if by.eq_ignore_ascii_case("ID") => {
                let ids = ids.iter().filter_map(|id| id.parse::<u64>().ok()).collect::<Vec<_>>();
                self.list_clients(host, |session| ids.contains(&session.id))
            }
            ("KILL", [by, id]) if by.eq_ignore_ascii_case("ID") => {
                let killed = self.sessions.iter().find(|(_, session)| {
                    session.host == host && id.parse().is_ok_and(|id: u64| id == session.id)
                });
                let killed = killed.map(|(killed, _)| *killed);
                if let Some(killed) = killed {
                    self.log_note(format!("connection {killed} was killed through connection {number}"));
                    self.reset(killed);
                }
                reply::integer(killed.is_some().into())
            }
            _ => reply::error(&format!(
                "ERR unknown subcommand or wrong number of arguments for '{subcommand}'"
            )),
        }
    }

    fn list_clients(&self, host: Host, selected: impl Fn(&Session) -> bool) -> Vec<u8> {
        let sessions = self.sessions.iter().filter(|(_, session)| session.host == host && selected(session));
        let lines = sessions.map(|(number, Session { id, name, opened, .. })| {
            let (port, age) = (10_000 + number, (self.now() - *opened).as_secs());
            format!("id={id} addr=10.0.0.1:{port} name={name} age={age} db=0 cmd=client\n")
        });
        reply::bulk(&lines.collect::<String>())
    }
}
