//! The process that owns a server, so that no server outlives its test.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tempfile::TempDir;

/// A shell that starts the server and watches a pipe from this process.
///
/// When the pipe closes, because the guard is dropped or because this process has ended, the shell kills the server
/// and removes its folder. The shell starts the server itself, so no server ever runs without a guard. As the
/// server's parent, it never signals another process that has reused the process id.
#[derive(Debug)]
pub(crate) struct Guard {
    shell: Child,
    /// `None` only while dropping. Closing the pipe makes the shell clean up.
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    folder: PathBuf,
}

/// The signals that a server's process can be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    Kill,
    Terminate,
    Stop,
    Continue,
}

impl Guard {
    /// Takes ownership of `folder`. No server runs until [`Guard::start`].
    pub(crate) fn new<A: AsRef<OsStr>>(
        folder: TempDir,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> io::Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", include_str!("guard.sh"), "ha-redis-guard"])
            .arg(folder.path())
            .arg(program)
            .args(arguments)
            // Ctrl-C and the timeouts of test runners signal the whole process group of the test.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (Some(requests), Some(answers)) = (shell.stdin.take(), shell.stdout.take()) else {
            return Err(io::Error::other("the guard has no pipes"));
        };
        Ok(Self { shell, requests: Some(requests), answers: BufReader::new(answers), folder: folder.keep() })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts the server and returns its process id. The server may still end right after the start.
    pub(crate) fn start(&mut self) -> io::Result<u32> {
        self.request("start")?.parse().map_err(io::Error::other)
    }

    /// Returns true if the server's process exists, also if it is stopped.
    pub(crate) fn is_running(&mut self) -> io::Result<bool> {
        Ok(self.request("running")? == "yes")
    }

    /// Sends a signal. Returns false if no server is running.
    pub(crate) fn signal(&mut self, signal: Signal) -> io::Result<bool> {
        let name = match signal {
            Signal::Kill => "KILL",
            Signal::Terminate => "TERM",
            Signal::Stop => "STOP",
            Signal::Continue => "CONT",
        };
        Ok(self.request(&format!("signal {name}"))? == "yes")
    }

    fn request(&mut self, request: &str) -> io::Result<String> {
        let requests = self.requests.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        // A single write, so that the shell never reads half a request as its last line.
        requests.write_all(format!("{request}\n").as_bytes())?;
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the server's guard process has ended"));
        }
        Ok(answer.trim_end().to_owned())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.requests.take());
        // This is short: the shell only kills the server and removes the folder. A failure cannot be handled here.
        let _ = self.shell.wait();
    }
}
