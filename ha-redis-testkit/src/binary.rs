//! Finds the Redis server program.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The environment variable with the path of the server program.
pub const VARIABLE: &str = "HA_REDIS_SERVER";

/// Where the unpacked server is in cargo's target folder.
const UNPACKED: &str = "redis-server/redis-server";

/// A file that cargo puts into the folder of each profile.
const PROFILE_LOCK: &str = ".cargo-lock";

const NAMES: [&str; 2] = ["redis-server", "valkey-server"];

/// Folders in which package managers install servers, and which may be missing from PATH.
const MORE_FOLDERS: [&str; 6] = [
    "/usr/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/opt/homebrew/bin",
    "/opt/homebrew/opt/redis/bin",
    "/opt/homebrew/opt/valkey/bin",
];

/// No usable Redis server was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoServer {
    /// [`VARIABLE`] is set to something that is not an executable program.
    #[error("HA_REDIS_SERVER is {}, which is not an executable program; correct or unset it", .0.display())]
    NotAProgram(PathBuf),
    /// No server was found.
    #[error(
        "neither redis-server nor valkey-server was found on PATH. Install one:
  Debian, Ubuntu   sudo apt-get install redis-server, or let `cargo xtask test` unpack one into target/
  Fedora           sudo dnf install /usr/bin/redis-server
  Alpine           sudo apk add redis
  macOS            brew install redis
or name the program in HA_REDIS_SERVER"
    )]
    NotInstalled,
}

/// Returns the path of the server program: `HA_REDIS_SERVER` if it is set, otherwise `redis-server` or
/// `valkey-server`, on PATH or in the folders of package managers, otherwise the [`unpacked_server`]. The same program
/// is a Sentinel when called with `--sentinel`.
///
/// # Errors
///
/// [`NoServer`], which explains how to install a server.
pub fn redis_server() -> Result<PathBuf, NoServer> {
    find(env::var_os(VARIABLE).as_deref(), env::var_os("PATH").as_deref(), unpacked_server())
}

/// Returns the path of the server that `cargo xtask` unpacks into cargo's target folder where none is installed. It
/// need not be there. `None` if this program is not in cargo's target folder, such as a doc test.
#[must_use]
pub fn unpacked_server() -> Option<PathBuf> {
    env::current_exe().ok().and_then(|program| target_folder(&program)).map(|target| target.join(UNPACKED))
}

/// Returns the program's version line, such as `Redis server v=7.0.15 sha=00000000:0 …`.
///
/// # Errors
///
/// The system's error if the program cannot be run, or the program's own.
pub fn version(server: &Path) -> io::Result<String> {
    let output = Command::new(server).arg("--version").output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(io::Error::other(text(&output.stderr)))
    }
}

/// Returns cargo's target folder, which has a folder for each profile. Programs are in a profile's folder, tests and
/// examples below it. `None` if the program is elsewhere.
fn target_folder(program: &Path) -> Option<PathBuf> {
    let folder = program.parent()?;
    let below_profile = folder.ends_with("deps") || folder.ends_with("examples");
    let profile = if below_profile { folder.parent()? } else { folder };
    // A doc test is two folders below the one for temporary files, where any user may put a program. Cargo's lock tells
    // the two apart. `CACHEDIR.TAG` would not: cargo writes none into a target folder that it did not make, such as a
    // volume of a container, and any user may put one among the temporary files.
    let is_cargos = profile.join(PROFILE_LOCK).is_file();
    profile.parent().filter(|_| is_cargos).map(Path::to_owned)
}

fn find(named: Option<&OsStr>, path: Option<&OsStr>, unpacked: Option<PathBuf>) -> Result<PathBuf, NoServer> {
    if let Some(named) = named.filter(|named| !named.is_empty()) {
        let named = PathBuf::from(named);
        return if is_program(&named) { Ok(named) } else { Err(NoServer::NotAProgram(named)) };
    }
    let folders = env::split_paths(path.unwrap_or_default()).chain(MORE_FOLDERS.map(PathBuf::from));
    let folders: Vec<PathBuf> = folders.collect();
    let installed = NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    installed.chain(unpacked).find(|candidate| is_program(candidate)).ok_or(NoServer::NotInstalled)
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn program(folder: &Path, name: &str, mode: u32) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn redis_preferred_to_valkey() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = env::join_paths([first.path(), second.path()]).unwrap();
        program(first.path(), "valkey-server", 0o755);
        program(first.path(), "redis-server", 0o644);
        let redis = program(second.path(), "redis-server", 0o755);
        assert_eq!(find(None, Some(&path), None), Ok(redis.clone()));
        assert_eq!(find(Some(OsStr::new("")), Some(&path), None), Ok(redis));
    }

    #[test]
    fn variable_overrides_search() {
        let folder = tempfile::tempdir().unwrap();
        program(folder.path(), "redis-server", 0o755);
        let mine = program(folder.path(), "mine", 0o755);
        let path = folder.path().as_os_str();
        assert_eq!(find(Some(mine.as_os_str()), Some(path), None), Ok(mine));

        let missing = folder.path().join("missing");
        let error = find(Some(missing.as_os_str()), Some(path), None).unwrap_err();
        assert_eq!(error, NoServer::NotAProgram(missing));
    }

    #[test]
    fn unpacked_server_found_last() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("redis-server")).unwrap();
        let unpacked = folder.path().join(UNPACKED);
        let find = |unpacked: &PathBuf| find(None, Some(folder.path().as_os_str()), Some(unpacked.clone()));
        let before = find(&unpacked);
        assert_ne!(before, Ok(unpacked.clone()), "it is not there yet");
        program(folder.path(), UNPACKED, 0o755);
        // This machine may have a server where package managers install them.
        assert_eq!(find(&unpacked), before.or(Ok(unpacked.clone())));

        let valkey = program(folder.path(), "valkey-server", 0o755);
        assert_ne!(find(&unpacked), Ok(unpacked.clone()), "{} is preferred", valkey.display());
    }

    #[test]
    fn target_folder_of_what_cargo_builds() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("my target");
        for profile in ["debug", "release"] {
            fs::create_dir_all(target.join(profile)).unwrap();
            fs::write(target.join(profile).join(".cargo-lock"), "").unwrap();
        }
        for program in ["debug/xtask", "debug/deps/cancellation-0a1b", "release/examples/sim"] {
            assert_eq!(target_folder(&target.join(program)), Some(target.clone()));
        }
        let this = env::current_exe().unwrap();
        assert!(target_folder(&this).is_some_and(|target| this.starts_with(target)));
    }

    #[test]
    fn no_target_folder_of_other_programs() {
        let folder = tempfile::tempdir().unwrap();
        // A doc test is in a folder that rustdoc makes in the one for temporary files.
        for program in ["rustdoctest0a1b/rust_out", "bin/xtask"] {
            assert_eq!(target_folder(&folder.path().join(program)), None);
        }
        assert_eq!(target_folder(Path::new("/xtask")), None);
    }
}
