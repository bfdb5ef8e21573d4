//! The images of the test. Where none can be pulled, they are made of the programs of this machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::engine::{Engine, output};
use crate::{output as folders, servers};

/// The image of the servers that `docker-compose.yml` names by default.
const SERVER_IMAGE: &str = "redis:8";
const OPENSSL_IMAGE: &str = "alpine/openssl";
/// The stand-in for both, and the image of the callers.
const STAND_IN: &str = "ha-redis-stand-in";

/// Where the stand-in has libraries.
const LIBRARIES: &str = "/libraries";

/// What `compose/*.sh` need beside the server.
const TOOLS: [&str; 9] = ["sh", "basename", "cat", "chmod", "cp", "grep", "mv", "sleep", "openssl"];

/// The images of a test. Dropping this removes the stand-in.
#[derive(Debug)]
pub(super) struct Images<'a> {
    engine: &'a Engine,
    pub(super) server: String,
    pub(super) openssl: String,
    /// Has the libraries of this machine, so that this program runs in it.
    pub(super) callers: String,
}

impl<'a> Images<'a> {
    /// Pulls the images, or makes a stand-in.
    pub(super) fn prepare(engine: &'a Engine) -> Result<Self, String> {
        let available = |variable: &str, default: &str| {
            let image = env::var(variable).ok().filter(|image| !image.is_empty());
            let image = image.unwrap_or_else(|| default.into());
            let there = engine.docker(&["image", "inspect", "--format", "{{.Id}}", &image]).is_ok();
            (there || engine.docker(&["pull", "--quiet", &image]).is_ok()).then_some(image)
        };
        make_stand_in(engine)?;
        let stand_in = || STAND_IN.to_owned();
        let images = Self {
            engine,
            server: available("REDIS_IMAGE", SERVER_IMAGE).unwrap_or_else(stand_in),
            openssl: available("OPENSSL_IMAGE", OPENSSL_IMAGE).unwrap_or_else(stand_in),
            callers: stand_in(),
        };
        eprintln!("Images: servers {}, certificates {}.", images.server, images.openssl);
        Ok(images)
    }
}

impl Drop for Images<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.engine.docker(&["image", "rm", STAND_IN]) {
            eprintln!("warning: the image {STAND_IN} is left behind: {error}");
        }
    }
}

/// Makes the stand-in of the server program, this program, and the tools and libraries that they use.
fn make_stand_in(engine: &Engine) -> Result<(), String> {
    let root = folders::folder("compose").join("stand-in");
    let failed = |error: std::io::Error| format!("{} cannot be written: {error}", root.display());
    if root.exists() {
        fs::remove_dir_all(&root).map_err(failed)?;
    }
    let server = ServerPrograms::find()?;
    let callers =
        env::current_exe().map_err(|error| format!("the path of this program is unknown: {error}"))?;
    let mut programs = vec![("redis-server", server.server), ("redis-cli", server.cli), ("callers", callers)];
    for tool in TOOLS {
        programs.push((tool, on_path(tool).ok_or_else(|| format!("{tool} is not installed"))?));
    }
    for (name, program) in &programs {
        copy(program, &root.join("usr/bin").join(name)).map_err(failed)?;
        for library in libraries(program, &server.libraries)? {
            let is_loader = library.to_string_lossy().contains("/ld-");
            let folder = if is_loader {
                &library
            } else {
                &Path::new(LIBRARIES).join(library.file_name().unwrap_or_default())
            };
            copy(&library, &root.join(folder.strip_prefix("/").unwrap_or(folder))).map_err(failed)?;
        }
    }
    fs::create_dir_all(root.join("tmp")).map_err(failed)?;
    for file in ["/usr/lib/ssl/openssl.cnf", "/etc/ssl/openssl.cnf", "/etc/pki/tls/openssl.cnf"] {
        if Path::new(file).exists() {
            copy(Path::new(file), &root.join(&file[1..])).map_err(failed)?;
        }
    }
    import(engine, &root)?;
    fs::remove_dir_all(&root).map_err(failed)
}

/// The server and its client, and where their libraries are if they are not installed.
struct ServerPrograms {
    server: PathBuf,
    cli: PathBuf,
    libraries: Vec<PathBuf>,
}

impl ServerPrograms {
    fn find() -> Result<Self, String> {
        let server = servers::ensure()?;
        if let Some(unpacked) = servers::Unpacked::of(&server) {
            let (server, cli) = (unpacked.program("redis-server"), unpacked.program("redis-cli"));
            return Ok(Self { server, cli, libraries: unpacked.libraries() });
        }
        let beside = |name: &str| server.parent().map(|folder| folder.join(name)).filter(|cli| cli.is_file());
        let cli =
            ["redis-cli", "valkey-cli"].into_iter().find_map(|name| beside(name).or_else(|| on_path(name)));
        let cli =
            cli.ok_or("redis-cli is not installed, which the health checks in docker-compose.yml use")?;
        Ok(Self { server, cli, libraries: Vec::new() })
    }
}

/// Copies a file, not a link, unless it is there.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    if !to.exists() {
        fs::copy(from, to)?;
    }
    Ok(())
}

/// Returns the shared libraries of a program, and the loader. Those that are not installed are in `folders`.
fn libraries(program: &Path, folders: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut ldd = Command::new("ldd");
    if !folders.is_empty() {
        ldd.env("LD_LIBRARY_PATH", env::join_paths(folders).map_err(|error| error.to_string())?);
    }
    let listed = output(ldd.arg(program))?;
    let paths = listed.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(paths.map(PathBuf::from).collect())
}

/// Imports a folder as the image.
fn import(engine: &Engine, root: &Path) -> Result<(), String> {
    let archive = root.with_extension("tar");
    output(Command::new("tar").arg("-C").arg(root).arg("-cf").arg(&archive).arg("."))?;
    let archive_name = archive.display().to_string();
    let (path, libraries) = ("ENV PATH=/usr/bin", format!("ENV LD_LIBRARY_PATH={LIBRARIES}"));
    engine.docker(&["import", "--change", path, "--change", &libraries, &archive_name, STAND_IN])?;
    fs::remove_file(&archive).map_err(|error| format!("{archive_name} cannot be removed: {error}"))
}

fn on_path(program: &str) -> Option<PathBuf> {
    let found =
        Command::new("sh").args(["-c", "command -v \"$0\"", program]).stdin(Stdio::null()).output().ok()?;
    let path = String::from_utf8(found.stdout).ok()?;
    (!path.trim().is_empty()).then(|| PathBuf::from(path.trim()))
}
