//! The images of the test. Where none can be pulled, they are made of the programs of this machine.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::engine::{Engine, run};
use super::machine::Obstacle;
use crate::output::folder;
use crate::servers;

/// The images that `docker-compose.yml` names by default, and the variables that name others.
const SERVER: (&str, &str) = ("REDIS_IMAGE", "redis:8");
const OPENSSL: (&str, &str) = ("OPENSSL_IMAGE", "alpine/openssl");

/// The image of the callers, and the stand-in for those that cannot be pulled.
const STAND_IN: &str = "ha-redis-stand-in";

/// Where the stand-in has libraries.
const LIBRARIES: &str = "/libraries";

/// What `compose/start.sh` and `compose/tls/make-certificates.sh` need.
const TOOLS: [&str; 9] = ["sh", "basename", "cat", "chmod", "cp", "grep", "mv", "sleep", "openssl"];

/// Whether images may be downloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pull {
    Allowed,
    Never,
}

/// The images of a test. Dropping this removes the stand-in.
#[derive(Debug)]
pub(super) struct Images<'a> {
    engine: &'a Engine,
    pub(super) server: String,
    pub(super) openssl: String,
    /// Has the libraries of this machine, so that this program runs in it.
    pub(super) callers: &'static str,
}

impl<'a> Images<'a> {
    /// Finds the images, or makes a stand-in.
    pub(super) fn prepare(engine: &'a Engine, pull: Pull) -> Result<Self, Obstacle> {
        let server = find(engine, SERVER, pull)?;
        let openssl = find(engine, OPENSSL, pull)?;
        let mut programs = vec![Program::this()?];
        if server.is_none() || openssl.is_none() {
            programs.extend(server_programs()?);
            for tool in TOOLS {
                programs.push(Program::on_path(tool, tool)?);
            }
        }
        make_stand_in(engine, &programs)?;
        let or_stand_in = |image: Option<String>| image.unwrap_or_else(|| STAND_IN.to_owned());
        let (server, openssl) = (or_stand_in(server), or_stand_in(openssl));
        eprintln!("Images: servers {server}, certificates {openssl}.");
        Ok(Self { engine, server, openssl, callers: STAND_IN })
    }
}

impl Drop for Images<'_> {
    fn drop(&mut self) {
        remove_stand_in(self.engine);
    }
}

/// Removes the stand-in, if it is there.
pub(super) fn remove_stand_in(engine: &Engine) {
    let _ = engine.docker(&["image", "rm", "--force", STAND_IN]);
}

/// Returns an image that is there or was pulled. `None` if the default cannot be had.
fn find(engine: &Engine, (variable, default): (&str, &str), pull: Pull) -> Result<Option<String>, String> {
    let named = env::var(variable).ok().filter(|image| !image.is_empty());
    let image = named.clone().unwrap_or_else(|| default.into());
    if engine.docker(&["image", "inspect", "--format", "{{.Id}}", &image]).is_ok() {
        return Ok(Some(image));
    }
    let missing = match pull {
        Pull::Allowed => {
            eprintln!("Downloading the image {image}.");
            match engine.docker(&["pull", "--quiet", &image]) {
                Ok(_) => return Ok(Some(image)),
                Err(error) => error,
            }
        }
        Pull::Never => format!("the image {image} is not there; `docker pull` it"),
    };
    match named {
        Some(_) => Err(format!("{variable}: {missing}")),
        None => Ok(None),
    }
}

/// A program of this machine, and its name in the image.
struct Program {
    name: &'static str,
    path: PathBuf,
    /// Where its libraries are if they are not installed.
    libraries: Vec<PathBuf>,
}

impl Program {
    fn this() -> Result<Self, String> {
        let path =
            env::current_exe().map_err(|error| format!("the path of this program is unknown: {error}"))?;
        Ok(Self { name: "callers", path, libraries: Vec::new() })
    }

    fn on_path(name: &'static str, program: &str) -> Result<Self, Obstacle> {
        let path = run(Command::new("sh").args(["-c", "command -v \"$0\"", program])).map_err(|_| {
            Obstacle::Machine(format!(
                "there is no image of Redis, and {program} is not installed to make one"
            ))
        })?;
        Ok(Self { name, path: path.into(), libraries: Vec::new() })
    }

    /// Copies the program and its libraries.
    fn copy_to(&self, root: &Path) -> Result<(), String> {
        copy(&self.path, &root.join("usr/bin").join(self.name))?;
        for library in self.shared_libraries()? {
            // The program names the path of its loader.
            let is_loader = library.to_string_lossy().contains("/ld-");
            let name = library.file_name().unwrap_or_default();
            let target = if is_loader { library.clone() } else { Path::new(LIBRARIES).join(name) };
            copy(&library, &root.join(target.strip_prefix("/").unwrap_or(&target)))?;
        }
        Ok(())
    }

    /// Returns the shared libraries and the loader.
    fn shared_libraries(&self) -> Result<BTreeSet<PathBuf>, String> {
        let mut ldd = Command::new("ldd");
        if !self.libraries.is_empty() {
            ldd.env("LD_LIBRARY_PATH", env::join_paths(&self.libraries).map_err(|error| error.to_string())?);
        }
        Ok(libraries_in(&run(ldd.arg(&self.path))?))
    }
}

/// Reads lines such as `libm.so.6 => /lib/libm.so.6 (0x7f00)` and `/lib64/ld-linux-x86-64.so.2 (0x7f00)`.
fn libraries_in(listed: &str) -> BTreeSet<PathBuf> {
    let path_of = |line: &'_ str| {
        let path = line.split_once("=> ").map_or(line, |(_, path)| path);
        path.rsplit_once(" (0x").map_or(path, |(path, _)| path).trim().to_owned()
    };
    listed.lines().map(path_of).filter(|path| path.starts_with('/')).map(PathBuf::from).collect()
}

/// Returns the server and its command-line client.
fn server_programs() -> Result<[Program; 2], Obstacle> {
    let server = servers::ensure()?;
    if let Some(unpacked) = servers::Unpacked::of(&server) {
        let program = |name| Program { name, path: unpacked.program(name), libraries: unpacked.libraries() };
        return Ok([program("redis-server"), program("redis-cli")]);
    }
    let beside = |name: &str| server.parent().map(|folder| folder.join(name)).filter(|path| path.is_file());
    let cli = match ["redis-cli", "valkey-cli"].into_iter().find_map(beside) {
        Some(path) => Program { name: "redis-cli", path, libraries: Vec::new() },
        None => Program::on_path("redis-cli", "redis-cli")?,
    };
    Ok([Program { name: "redis-server", path: server, libraries: Vec::new() }, cli])
}

/// Makes the stand-in of these programs.
fn make_stand_in(engine: &Engine, programs: &[Program]) -> Result<(), String> {
    let root = folder("compose").join("stand-in");
    let failed = |error: io::Error| format!("{} cannot be written: {error}", root.display());
    if root.exists() {
        fs::remove_dir_all(&root).map_err(failed)?;
    }
    programs.iter().try_for_each(|program| program.copy_to(&root))?;
    fs::create_dir_all(root.join("tmp")).map_err(failed)?;
    for file in ["/usr/lib/ssl/openssl.cnf", "/etc/ssl/openssl.cnf", "/etc/pki/tls/openssl.cnf"] {
        if Path::new(file).exists() {
            copy(Path::new(file), &root.join(&file[1..]))?;
        }
    }
    let archive = root.with_extension("tar");
    run(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg("."))?;
    // An import does not remove the former image of this name.
    remove_stand_in(engine);
    let (path, libraries) = ("ENV PATH=/usr/bin", format!("ENV LD_LIBRARY_PATH={LIBRARIES}"));
    let archive_name = archive.display().to_string();
    let import = ["import", "--change", path, "--change", &libraries, &archive_name, STAND_IN];
    engine.docker(&import)?;
    fs::remove_file(&archive).and_then(|()| fs::remove_dir_all(&root)).map_err(failed)
}

/// Copies a file, not a link, unless it is there.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    if to.exists() {
        return Ok(());
    }
    let copied = to.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::copy(from, to));
    copied
        .map(drop)
        .map_err(|error| format!("{} cannot be copied to {}: {error}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_have_paths_with_spaces() {
        let listed = "\tlinux-vdso.so.1 (0x00007f8623f71000)
\tlibjemalloc.so.2 => /my target/lib/libjemalloc.so.2 (0x00007f8623800000)
\tlibmissing.so => not found
\t/lib64/ld-linux-x86-64.so.2 (0x00007f8623f73000)";
        let expected = ["/lib64/ld-linux-x86-64.so.2", "/my target/lib/libjemalloc.so.2"];
        assert_eq!(libraries_in(listed), expected.map(PathBuf::from).into());
    }
}
