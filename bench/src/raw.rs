//! The upper limit: the bytes of a load on a bare socket, without a client.

use redis::{IntoConnectionInfo, cmd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Failure;
use crate::load::Calls;
use crate::workload::Workload;

/// One task writes the commands of all tasks at once, and reads until the known total size of the replies has
/// arrived, without parsing them.
pub(crate) struct Batches {
    socket: TcpStream,
    batch: Vec<u8>,
    commands: usize,
    /// The bytes of all replies.
    pending_bytes: usize,
    buffer: Vec<u8>,
}

impl Batches {
    pub(crate) async fn connect(url: &str, workload: Workload, tasks: usize) -> Result<Self, Failure> {
        let (request, reply_size) = exchange(workload)?;
        let commands = tasks * workload.commands();
        let socket = TcpStream::connect(url.into_connection_info()?.addr().to_string()).await?;
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            batch: request.repeat(commands),
            commands,
            pending_bytes: reply_size * commands,
            buffer: vec![0; 64 << 10],
        })
    }
}

/// Returns a command's bytes, and the length of its reply.
fn exchange(workload: Workload) -> Result<(Vec<u8>, usize), Failure> {
    let (key, size) = (workload.key(0), workload.value_size());
    match workload {
        Workload::Get64 | Workload::Get16k => {
            Ok((cmd("GET").arg(key).get_packed_command(), format!("${size}\r\n").len() + size + 2))
        }
        Workload::Set64 | Workload::Pipeline100 => {
            let set = cmd("SET").arg(key).arg(vec![b'v'; size]).get_packed_command();
            Ok((set, "+OK\r\n".len()))
        }
        Workload::BesideValues | Workload::BesidePipelines => {
            Err("the raw socket has no mixed load; choose another client".into())
        }
    }
}

impl Calls for Batches {
    async fn call(&mut self) -> Result<u64, Failure> {
        self.socket.write_all(&self.batch).await?;
        let mut pending_bytes = self.pending_bytes;
        while pending_bytes > 0 {
            match self.socket.read(&mut self.buffer).await? {
                0 => return Err("the server closed the connection".into()),
                read => {
                    pending_bytes =
                        pending_bytes.checked_sub(read).ok_or("received more bytes than the replies have")?;
                }
            }
        }
        Ok(self.commands as u64)
    }
}
