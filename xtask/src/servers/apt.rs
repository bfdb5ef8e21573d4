//! Downloads and unpacks the packages of a server with apt-get and dpkg-deb, without root.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Keeps what apt-get writes in its working folder, where root may write too, and runs none of the system's hooks.
/// Errors of single sources are reported.
const CONFIG: &str = r##"
Dir::State "./state/";
Dir::Cache "./cache/";
Dir::Log "./log/";
APT::Sandbox::User "root";
Acquire::Languages "none";
#clear APT::Update;
APT::Update::Error-Mode "any";
"##;

/// The folders, in the working folder, that apt-get does not make itself.
const FOLDERS: [&str; 4] = ["state/lists/partial", "cache/archives/partial", "log", "root"];

const SYSTEM_LISTS: &str = "/var/lib/apt/lists/";
const OWN_LISTS: &str = "./state/lists/";

/// The program is in `redis-tools`. Its libraries depend on the release.
const PACKAGES: [&str; 2] = ["redis-server", "redis-tools"];

/// How the names of the needed packages start. The others that an installation requires make users and services.
const NEEDED: [&str; 3] = ["redis-", "lib", "lua-"];

/// The programs of a system with Debian's packages.
#[derive(Debug)]
pub(super) struct Apt {
    pub(super) apt_get: PathBuf,
    pub(super) dpkg_deb: PathBuf,
}

/// The packages that the system lacks.
#[derive(Debug, PartialEq, Eq)]
struct Missing<'a> {
    names: Vec<&'a str>,
    bytes: u64,
}

impl Apt {
    pub(super) fn on_path() -> Option<Self> {
        Some(Self { apt_get: on_path("apt-get")?, dpkg_deb: on_path("dpkg-deb")? })
    }

    /// Unpacks the packages in `folder`, which is empty, and returns the root of what they contain.
    pub(super) fn unpack(&self, folder: &Path) -> Result<PathBuf, String> {
        let failed = |error: io::Error| format!("cannot write to {}: {error}", folder.display());
        for name in FOLDERS {
            fs::create_dir_all(folder.join(name)).map_err(failed)?;
        }
        fs::write(folder.join("apt.conf"), CONFIG).map_err(failed)?;

        // The system's lists may be missing, or name packages that are no longer there. Only root may update them.
        self.download(folder, SYSTEM_LISTS).or_else(|_| {
            // Its packages may be incomplete, or of other versions.
            for package in packages(folder).map_err(failed)? {
                fs::remove_file(package).map_err(failed)?;
            }
            eprintln!("Downloading the lists of packages to {}.", folder.display());
            // A source that fails does not matter if another has the packages.
            let update = self.apt_get(folder, OWN_LISTS, &["update"]);
            let download = self.download(folder, OWN_LISTS);
            download.map_err(|error| update.err().map_or(error.clone(), |cause| format!("{cause}\n{error}")))
        })?;

        let root = folder.join("root");
        for package in packages(folder).map_err(failed)? {
            output(Command::new(&self.dpkg_deb).arg("--extract").args([&package, &root]))?;
        }
        Ok(root)
    }

    /// Downloads the packages to `folder`.
    fn download(&self, folder: &Path, lists: &str) -> Result<(), String> {
        // `--reinstall` since the program may be missing although its package counts as installed.
        let question = ["install", "--print-uris", "--reinstall", "--no-remove", "--no-install-recommends"];
        let uris = self.apt_get(folder, lists, &[&question[..], &PACKAGES].concat())?;
        let missing = Missing::read(&uris);
        if missing.names.is_empty() {
            return Err(format!("apt-get offers no package {}", PACKAGES.join(" or ")));
        }
        let (names, megabytes) = (missing.names.join(", "), missing.bytes as f64 / 1e6);
        eprintln!("Downloading {names} ({megabytes:.1} MB) to {}.", folder.display());
        self.apt_get(folder, lists, &[&["download"], &missing.names[..]].concat()).map(drop)
    }

    fn apt_get(&self, folder: &Path, lists: &str, arguments: &[&str]) -> Result<String, String> {
        let lists = format!("Dir::State::lists={lists}");
        let options = ["--config-file", "apt.conf", "--option", &lists, "-qq"];
        let mut command = Command::new(&self.apt_get);
        output(command.current_dir(folder).env("LC_ALL", "C").args(options).args(arguments))
    }
}

impl<'a> Missing<'a> {
    /// Reads lines such as `'http://host/redis-tools_7.0.15-1_amd64.deb' redis-tools_5%3a7.0.15-1_amd64.deb 991988`.
    fn read(uris: &'a str) -> Self {
        let mut missing = Self { names: Vec::new(), bytes: 0 };
        for line in uris.lines() {
            let mut words = line.split_whitespace().skip(1);
            let name = words.next().and_then(|file| file.split('_').next()).unwrap_or_default();
            if NEEDED.iter().any(|start| name.starts_with(start)) {
                missing.names.push(name);
                missing.bytes += words.next().and_then(|size| size.parse::<u64>().ok()).unwrap_or(0);
            }
        }
        missing
    }
}

/// Returns the downloaded packages.
fn packages(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(folder)?.map(|file| file.map(|file| file.path()));
    let is_package = |path: &Path| path.extension().is_some_and(|extension| extension == "deb");
    paths.filter(|path| path.as_ref().map_or(true, |path| is_package(path))).collect()
}

/// Runs a program and returns what it printed, or its errors.
fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| format!("cannot run {program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_server_and_libraries_downloaded() {
        let uris = "'http://deb.example/adduser_3.134_all.deb' adduser_3.134_all.deb 105000 SHA256:0
'http://deb.example/libjemalloc2_5.3.0-1_amd64.deb' libjemalloc2_5.3.0-1_amd64.deb 275000 MD5Sum:0
'http://deb.example/lua-cjson_2.1.0_amd64.deb' lua-cjson_2.1.0_amd64.deb 17000
'http://deb.example/redis-tools_7.0.15-1_amd64.deb' redis-tools_5%3a7.0.15-1_amd64.deb 991988 ";
        let expected = Missing { names: vec!["libjemalloc2", "lua-cjson", "redis-tools"], bytes: 1_283_988 };
        assert_eq!(Missing::read(uris), expected);
        assert_eq!(Missing::read(""), Missing { names: Vec::new(), bytes: 0 });
    }
}
