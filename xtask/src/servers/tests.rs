use std::sync::{Barrier, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::*;

const ARGUMENTS: &str = "#!/bin/sh
lists=$4
shift 5
echo \"$1 $lists\" >>../calls
";

/// Has two packages, of which the second creates users.
const OFFER: &str = "echo \"'http://deb.example/a' redis-tools_5%3a7.0_amd64.deb 991988\"
echo \"'http://deb.example/b' adduser_3.134_all.deb 105000\"";

/// Unpacks a server that prints where it looks for libraries.
const EXTRACT: &str = "#!/bin/sh
mkdir -p \"$3/usr/bin\" \"$3/usr/lib/x86_64-linux-gnu\"
printf '#!/bin/sh\\necho \"Redis server $LD_LIBRARY_PATH\"\\n' >\"$3/usr/bin/redis-server\"
chmod +x \"$3/usr/bin/redis-server\"
";

/// Keeps the tests of one process apart: a program cannot start while a process forked by another test still has it
/// open for writing.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A target folder, with stand-ins for apt-get and dpkg-deb.
struct System {
    target: tempfile::TempDir,
    apt: Apt,
}

impl System {
    fn new(install: &str, download: &str, dpkg_deb: &str) -> Self {
        let target = tempfile::tempdir().unwrap();
        let apt_get =
            format!("{ARGUMENTS}case $1 in\ninstall) {install} ;;\ndownload) {download} ;;\nesac\n");
        let apt = Apt {
            apt_get: program(target.path(), "apt-get", &apt_get),
            dpkg_deb: program(target.path(), "dpkg-deb", dpkg_deb),
        };
        Self { target, apt }
    }

    fn server(&self) -> PathBuf {
        self.target.path().join("redis-server/redis-server")
    }

    fn set_up(&self) -> Result<(), String> {
        set_up(&self.apt, &self.server())
    }

    /// Returns what apt-get was called for.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.target.path().join("calls")).unwrap();
        calls.lines().map(str::to_owned).collect()
    }

    /// Returns the names of what is in the target folder, besides the stand-ins.
    fn files(&self) -> Vec<String> {
        let files = fs::read_dir(self.target.path()).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.starts_with("redis-server")).collect();
        names.sort();
        names
    }
}

fn program(folder: &Path, name: &str, script: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn unpacked_once_with_libraries() {
    let _alone = alone();
    let system = System::new(OFFER, "touch \"$2.deb\"", EXTRACT);
    fs::create_dir(system.target.path().join("redis-server.partial")).unwrap();
    fs::write(system.target.path().join("redis-server.partial/old.deb"), "interrupted").unwrap();
    assert_eq!(system.set_up(), Ok(()));

    let version = binary::version(&system.server()).unwrap();
    assert!(version.contains("/redis-server/usr/lib/x86_64-linux-gnu"), "{version}");
    assert_eq!(system.files(), ["redis-server", "redis-server.lock"]);
    let once =
        ["install Dir::State::lists=/var/lib/apt/lists/", "download Dir::State::lists=/var/lib/apt/lists/"];
    assert_eq!(system.calls(), once);
    assert_eq!(system.set_up(), Ok(()));
    assert_eq!(system.calls(), once);
}

#[test]
fn lists_downloaded_where_system_has_none() {
    let _alone = alone();
    let offer = format!("case $lists in *./state/lists/) {OFFER} ;; *) echo no lists >&2; exit 100 ;; esac");
    let system = System::new(&offer, "touch \"$2.deb\"", EXTRACT);
    assert_eq!(system.set_up(), Ok(()));
    let expected = [
        "install Dir::State::lists=/var/lib/apt/lists/",
        "update Dir::State::lists=./state/lists/",
        "install Dir::State::lists=./state/lists/",
        "download Dir::State::lists=./state/lists/",
    ];
    assert_eq!(system.calls(), expected);
}

#[test]
fn packages_of_failed_download_not_unpacked() {
    let _alone = alone();
    let download =
        "case $lists in *./state/lists/) touch new.deb ;; *) touch old.deb; echo gone >&2; exit 100 ;; esac";
    let extract = EXTRACT.replacen('\n', "\ncase $2 in *old.deb) echo broken >&2; exit 2 ;; esac\n", 1);
    let system = System::new(OFFER, download, &extract);
    assert_eq!(system.set_up(), Ok(()));
    assert_eq!(system.calls().len(), 5, "the second download has succeeded");
}

#[test]
fn failure_leaves_nothing_to_trust() {
    let _alone = alone();
    let cases = [
        System::new("exit 0", "exit 0", EXTRACT),
        System::new(OFFER, "touch \"$2.deb\"; echo unreachable >&2; exit 100", EXTRACT),
        System::new(OFFER, "touch \"$2.deb\"", "#!/bin/sh\nmkdir -p \"$3/usr/bin\"; echo broken >&2; exit 2"),
        System::new(OFFER, "touch \"$2.deb\"", "#!/bin/sh\nmkdir -p \"$3/usr/bin\""),
    ];
    let causes = ["no package redis-server", "unreachable", "broken", "does not run"];
    for (system, cause) in cases.iter().zip(causes) {
        let error = system.set_up().unwrap_err();
        assert!(error.contains(cause), "{error}");
        assert_eq!(system.files(), ["redis-server.lock"]);
    }
}

#[test]
fn server_of_another_system_replaced() {
    let _alone = alone();
    let system = System::new(OFFER, "touch \"$2.deb\"", EXTRACT);
    fs::create_dir(system.target.path().join("redis-server")).unwrap();
    program(&system.target.path().join("redis-server"), "redis-server", "#!/bin/sh\nexit 127\n");
    assert_eq!(system.set_up(), Ok(()));
    assert!(runs(&system.server()));
}

#[test]
fn processes_set_up_one_at_a_time() {
    let _alone = alone();
    let system = System::new(OFFER, "touch \"$2.deb\"", EXTRACT);
    let start = Barrier::new(8);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                assert_eq!(system.set_up(), Ok(()));
            });
        }
    });
    assert_eq!(system.calls().len(), 2, "one question, one download");
    assert!(runs(&system.server()));
}
