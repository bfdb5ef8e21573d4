//! What the test needs of the machine: to be the only run, on ports that are free.

use std::env;
use std::net::TcpListener;
use std::process;
use std::thread;

use ha_redis_testkit::lock_file::LockFile;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::engine::Engine;
use super::{image, stack};

/// Why the test did not succeed.
#[derive(Debug)]
pub(super) enum Obstacle {
    /// The machine does not have what the test needs.
    Machine(String),
    Failure(String),
}

impl From<String> for Obstacle {
    fn from(failure: String) -> Self {
        Self::Failure(failure)
    }
}

/// The only run on this machine: names, addresses and ports are fixed. Dropping this lets another one begin.
#[derive(Debug)]
pub(super) struct OnlyRun {
    _lock: LockFile,
}

impl OnlyRun {
    /// Begins a run, which is cleaned up also if it is interrupted.
    pub(super) fn begin(engine: &Engine) -> Result<Self, Obstacle> {
        if !cfg!(target_os = "linux") {
            return Err(Obstacle::Machine(
                "this program runs in a container, so it must be one for Linux".into(),
            ));
        }
        let path = env::temp_dir().join("ha-redis-compose-test").join("lock");
        let lock = LockFile::try_take(&path)
            .map_err(|error| Obstacle::Machine(format!("{} cannot be locked: {error}", path.display())))?;
        let lock = lock.ok_or_else(|| Obstacle::Machine("another run is in progress".into()))?;
        // What a run that was killed has left behind.
        clean_up(engine)?;
        for port in stack::PORTS {
            TcpListener::bind(("127.0.0.1", port)).map_err(|error| {
                let advice = "are the containers of docker-compose.yml running? Stop them";
                Obstacle::Machine(format!("port {port} cannot be used: {error}; {advice}"))
            })?;
        }
        clean_up_when_interrupted(*engine)?;
        Ok(Self { _lock: lock })
    }
}

fn clean_up(engine: &Engine) -> Result<(), String> {
    stack::remove(engine)?;
    image::remove_stand_in(engine);
    Ok(())
}

/// Cleans up and exits when Ctrl-C is pressed or the process is to end.
fn clean_up_when_interrupted(engine: Engine) -> Result<(), String> {
    let failed = |error| format!("signals cannot be handled: {error}");
    let tokio = runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let entered = tokio.enter();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    drop(entered);
    thread::spawn(move || {
        tokio.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        eprintln!("interrupted: removing the containers");
        if let Err(error) = clean_up(&engine) {
            eprintln!("warning: containers are left behind: {error}");
        }
        // The status that shells report for a program that Ctrl-C ended.
        process::exit(130);
    });
    Ok(())
}
