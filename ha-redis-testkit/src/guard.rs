//! The process that owns a server, so that none is left behind however a test ends.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tempfile::TempDir;

/// A shell that starts the server and keeps the pipe to this process open.
///
/// When the pipe closes, because the guard is dropped or because this process is gone, the shell kills the
/// server and removes its folder. It starts the server itself, so there is no moment at which a server runs
/// that no guard knows of; and as the server's parent it never signals a process that took over its id.
#[derive(Debug)]
pub(crate) struct Guard {
    shell: Child,
    /// `None` only while dropping: closing it is what tells the shell to clean up.
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    folder: PathBuf,
}

/// What can be sent to a server's process.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    Kill,
    Terminate,
    Stop,
    Continue,
}

impl Guard {
    /// Takes over `folder`; no server runs until [`Guard::start`].
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
            // A Ctrl-C, or a test runner out of patience, hits the whole process group of the test.
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

    /// Starts the server and returns its process id. Whether it keeps running shows later.
    pub(crate) fn start(&mut self) -> io::Result<u32> {
        self.ask("start")?.parse().map_err(io::Error::other)
    }

    /// Whether the server's process exists, a stopped one included.
    pub(crate) fn is_running(&mut self) -> io::Result<bool> {
        Ok(self.ask("running")? == "yes")
    }

    /// Sends a signal; `false` when no server is running.
    pub(crate) fn signal(&mut self, signal: Signal) -> io::Result<bool> {
        let name = match signal {
            Signal::Kill => "KILL",
            Signal::Terminate => "TERM",
            Signal::Stop => "STOP",
            Signal::Continue => "CONT",
        };
        Ok(self.ask(&format!("signal {name}"))? == "yes")
    }

    fn ask(&mut self, request: &str) -> io::Result<String> {
        let requests = self.requests.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        // One write, so that the shell never sees half a request as its last line.
        requests.write_all(format!("{request}\n").as_bytes())?;
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the guard of the server is gone"));
        }
        Ok(answer.trim_end().to_owned())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.requests.take());
        // Short: the shell has only to kill and to remove. A failure leaves nothing that could be done here.
        let _ = self.shell.wait();
    }
}
