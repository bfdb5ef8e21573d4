//! Ensures that there is a Redis server to test against.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ha_redis_testkit::binary::{self, NoServer};

/// A package manager, and how it installs a server.
struct Installer {
    program: &'static str,
    needs_root: bool,
    steps: &'static [&'static [&'static str]],
}

const INSTALLERS: [Installer; 4] = [
    Installer {
        program: "apt-get",
        needs_root: true,
        steps: &[&["update"], &["install", "-y", "--no-install-recommends", "redis-server"]],
    },
    Installer { program: "dnf", needs_root: true, steps: &[&["install", "-y", "/usr/bin/redis-server"]] },
    Installer { program: "apk", needs_root: true, steps: &[&["add", "redis"]] },
    // Homebrew refuses to run as root.
    Installer { program: "brew", needs_root: false, steps: &[&["install", "redis"]] },
];

/// Makes apt-get non-interactive. The others ask nothing when called as above.
const NON_INTERACTIVE: [&str; 2] = ["env", "DEBIAN_FRONTEND=noninteractive"];

/// Finds the server program, or installs one with the system's package manager if that needs no confirmation.
///
/// The package may start a service on port 6379, which no test uses.
///
/// # Errors
///
/// How the user can install a server.
pub(crate) fn ensure() -> Result<PathBuf, String> {
    let missing = match binary::redis_server() {
        Ok(server) => return Ok(server),
        Err(error @ NoServer::NotInstalled) => error,
        Err(error) => return Err(error.to_string()),
    };
    let Some(installer) = INSTALLERS.iter().find(|installer| is_on_path(installer.program)) else {
        return Err(missing.to_string());
    };
    let manual_command = format!("there is no Redis server. Install one:\n  {}", installer.manual_command());
    let Some(prefix) = installer.prefix() else { return Err(manual_command) };
    eprintln!("No Redis server found: installing one with {}.", installer.program);
    if !installer.install(prefix) {
        return Err(format!("{} failed; {manual_command}", installer.program));
    }
    binary::redis_server().map_err(|error| error.to_string())
}

impl Installer {
    /// Returns the prefix that gives the command the required permissions, or `None` if the user would be asked.
    fn prefix(&self) -> Option<&'static [&'static str]> {
        let no_question = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
            output.ok().filter(|output| output.status.success()).map(|output| output.stdout)
        };
        let is_root = no_question("id", &["-u"]).is_some_and(|user| user.trim_ascii() == b"0");
        if is_root || !self.needs_root {
            return (is_root == self.needs_root).then_some(&[]);
        }
        no_question("sudo", &["-n", "true"]).map(|_| &["sudo", "-n"][..])
    }

    fn install(&self, prefix: &[&str]) -> bool {
        self.steps.iter().all(|step| {
            let words = [prefix, &NON_INTERACTIVE, &[self.program], step].concat();
            eprintln!("+ {}", words.join(" "));
            Command::new(words[0])
                .args(&words[1..])
                .stdin(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        })
    }

    /// Returns the command for the user to type.
    fn manual_command(&self) -> String {
        let sudo = if self.needs_root { "sudo " } else { "" };
        let steps = self.steps.iter().map(|step| format!("{sudo}{} {}", self.program, step.join(" ")));
        steps.collect::<Vec<_>>().join(" && ")
    }
}

fn is_on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| Path::new(&folder).join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_command_is_complete() {
        let commands = INSTALLERS.map(|installer| installer.manual_command());
        assert_eq!(
            commands[0],
            "sudo apt-get update && sudo apt-get install -y --no-install-recommends redis-server"
        );
        assert_eq!(commands[3], "brew install redis");
    }
}
