//! Ensures that there is a Redis server to test against.

mod apt;

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ha_redis_testkit::binary::{self, NoServer};
use rustix::fs::{FlockOperation, flock};

use apt::Apt;

/// Starts the unpacked server with the libraries that were unpacked with it.
const START_SCRIPT: &str = r#"#!/bin/sh
folder=${0%/*}
for libraries in "$folder"/lib/*-linux-* "$folder"/usr/lib/*-linux-*; do
    LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
done
export LD_LIBRARY_PATH
exec "$folder/usr/bin/redis-server" "$@"
"#;

/// Finds the server program, or unpacks one into cargo's target folder. Nothing is installed, and nothing else changes.
///
/// # Errors
///
/// How the user can install a server.
pub(crate) fn ensure() -> Result<PathBuf, String> {
    let unpacked = binary::unpacked_server().ok_or("cargo's target folder was not found")?;
    match binary::redis_server() {
        // An unpacked server is checked again: the target folder may come from another system.
        Ok(server) if server != unpacked || runs(&server) => return Ok(server),
        Ok(_) | Err(NoServer::NotInstalled) => {}
        Err(error) => return Err(error.to_string()),
    }
    let Some(apt) = Apt::on_path() else { return Err(NoServer::NotInstalled.to_string()) };
    match set_up(&apt, &unpacked) {
        Ok(()) => Ok(unpacked),
        Err(cause) => {
            let folder = folder_of(&unpacked);
            Err(format!(
                "cannot unpack a server into {}: {cause}\n{}",
                folder.display(),
                NoServer::NotInstalled
            ))
        }
    }
}

/// Unpacks the server, unless it is there already.
fn set_up(apt: &Apt, server: &Path) -> Result<(), String> {
    let folder = folder_of(server);
    let partial = folder.with_extension("partial");
    let lock = lock(&folder.with_extension("lock")).map_err(|error| format!("cannot lock it: {error}"))?;
    // Another process may have unpacked it while this one waited for the lock.
    if runs(server) {
        return Ok(());
    }
    eprintln!("No Redis server found: unpacking one into {}. Nothing is installed.", folder.display());
    let result = unpack(apt, folder, &partial);
    // After an error in here, the next attempt starts with the removal.
    let _ = remove(&partial);
    drop(lock);
    result
}

/// Unpacks to `partial`, and moves what runs to `folder`. An interrupted attempt leaves `folder` alone.
fn unpack(apt: &Apt, folder: &Path, partial: &Path) -> Result<(), String> {
    let failed = |error: io::Error| error.to_string();
    remove(partial).and_then(|()| fs::create_dir(partial)).map_err(failed)?;
    let root = apt.unpack(partial)?;

    let server = root.join("redis-server");
    fs::write(&server, START_SCRIPT).map_err(failed)?;
    fs::set_permissions(&server, Permissions::from_mode(0o755)).map_err(failed)?;
    binary::version(&server).map_err(|error| format!("the unpacked server does not run: {error}"))?;
    remove(folder).and_then(|()| fs::rename(&root, folder)).map_err(failed)
}

/// A server that was unpacked, not installed.
#[derive(Debug)]
pub(crate) struct Unpacked<'a> {
    folder: &'a Path,
}

impl<'a> Unpacked<'a> {
    /// Returns `None` if the server is not an unpacked one.
    pub(crate) fn of(server: &'a Path) -> Option<Self> {
        let is_unpacked = binary::unpacked_server().is_some_and(|unpacked| unpacked == server);
        is_unpacked.then(|| Self { folder: folder_of(server) })
    }

    /// Returns a program of the packages, which needs the [`Self::libraries`].
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join("usr/bin").join(name)
    }

    /// Returns the folders of the unpacked libraries, as the start script finds them.
    pub(crate) fn libraries(&self) -> Vec<PathBuf> {
        let folders = ["lib", "usr/lib"].map(|folder| fs::read_dir(self.folder.join(folder)));
        let paths = folders.into_iter().flatten().flatten().flatten().map(|entry| entry.path());
        paths.filter(|path| path.to_string_lossy().contains("-linux-")).collect()
    }
}

fn runs(server: &Path) -> bool {
    binary::version(server).is_ok()
}

fn folder_of(server: &Path) -> &Path {
    server.parent().unwrap_or(server)
}

/// Waits until no other process holds the lock. Dropping the file releases it, and so does the end of the process.
fn lock(path: &Path) -> io::Result<File> {
    let file = File::create(path)?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
