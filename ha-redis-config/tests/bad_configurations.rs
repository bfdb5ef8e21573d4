//! Bad configurations, and the exact errors they yield: `bad_configurations.txt`.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use ha_redis_config::{ConfigError, Loader};

const CASES: &str = include_str!("bad_configurations.txt");

/// The password in the cases, which no error may show.
const SECRET: &str = "hunter2";

/// A case of the file: `=== name`, then parts that begin with `> title`.
///
/// A part is a file of that name, except for these: `environment` and `set` have lines `name=value`, `url` has a URL,
/// `load` (with the name of a configuration, if any) ends the input, and `mistakes` are the lines of the error.
struct Case {
    name: &'static str,
    parts: Vec<(&'static str, String)>,
}

fn cases() -> Vec<Case> {
    let cases = CASES.split("\n=== ").skip(1);
    let parse = |case: &'static str| {
        let (name, body) = case.split_once('\n').unwrap();
        let parts = format!("\n{body}").leak().split("\n> ").skip(1).map(|part| {
            let (title, text) = part.split_once('\n').unwrap_or((part, ""));
            (title, text.to_owned())
        });
        Case { name, parts: parts.collect() }
    };
    cases.map(parse).collect()
}

fn pairs(text: &str) -> impl Iterator<Item = (String, String)> {
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| line.split_once('=').unwrap()).map(|(name, value)| (name.to_owned(), value.to_owned()))
}

impl Case {
    /// Returns the error of the case, and the one that is expected.
    fn run(&self) -> (String, String) {
        let folder = tempfile::tempdir().unwrap();
        let shown = format!("{}/", folder.path().display());
        let mut loader = Loader::new().environment([("", ""); 0]);
        let mut result = None;
        for (title, text) in &self.parts {
            let text = text.replace("{dir}/", &shown);
            loader = match *title {
                "environment" => loader.environment(pairs(&text)),
                "set" => pairs(&text).fold(loader, |loader, (name, value)| loader.set(name, value)),
                "url" => loader.url(text.trim()),
                "mistakes" => {
                    let error: ConfigError = result.expect("mistakes follow load");
                    return (error.to_string().replace(&shown, ""), text.trim().to_owned());
                }
                load if load == "load" || load.starts_with("load ") => {
                    result = Some(match load.strip_prefix("load ") {
                        Some(name) => loader.load(name).expect_err(self.name),
                        None => loader.load_default().expect_err(self.name),
                    });
                    loader
                }
                file => self.write(loader, folder.path(), file, &text),
            };
        }
        panic!("{} has no mistakes", self.name)
    }

    fn write(&self, loader: Loader, folder: &Path, file: &str, text: &str) -> Loader {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match text.strip_prefix("bytes ") {
            Some(bytes) => fs::write(
                &path,
                bytes.split_whitespace().map(|byte| byte.parse().unwrap()).collect::<Vec<u8>>(),
            ),
            None => fs::write(&path, text),
        }
        .unwrap();
        match file {
            ".env" => loader.dotenv(path),
            file if file.starts_with("redis.") => loader.file(path),
            file if file.starts_with("secrets/") => loader.secrets_dir(folder.join("secrets")),
            _ => loader,
        }
    }
}

#[test]
fn errors_are_exact() {
    let cases = cases();
    let names: BTreeSet<_> = cases.iter().map(|case| case.name).collect();
    assert!(names.len() >= 40 && names.len() == cases.len(), "{} cases", names.len());
    let mut wrong = String::new();
    for case in &cases {
        let (error, expected) = case.run();
        assert!(!error.contains(SECRET), "{}: {error}", case.name);
        if error != expected {
            wrong.push_str(&format!("\n=== {}\n> mistakes\n{error}\n", case.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
