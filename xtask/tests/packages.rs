//! Checks the packages that are published.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const GUIDE: &str = "docs/guide/";

/// Runs cargo in the workspace and returns what it prints.
fn cargo(arguments: &[&str]) -> String {
    let mut cargo = Command::new(env!("CARGO"));
    let output = cargo.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns what cargo knows of each published package.
fn published() -> Vec<Value> {
    let metadata = cargo(&["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let mut metadata: Value = serde_json::from_str(&metadata).unwrap();
    let Value::Array(mut packages) = metadata["packages"].take() else { panic!("no packages in {metadata}") };
    packages.retain(|package| package["publish"].is_null());
    assert_eq!(packages.len(), 5);
    packages
}

/// Returns the files in a folder and its subfolders; none if it does not exist.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// Returns the texts of a field with a list.
fn texts<'a>(package: &'a Value, field: &str) -> Vec<&'a str> {
    package[field].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn metadata_is_complete() {
    for package in published() {
        for field in ["description", "documentation", "license", "readme", "rust_version"] {
            assert!(package[field].is_string(), "{}: {field}", package["name"]);
        }
        let (keywords, categories) = (texts(&package, "keywords"), texts(&package, "categories"));
        assert!((1..=5).contains(&keywords.len()), "{keywords:?}");
        assert!(keywords.iter().all(|keyword| keyword.len() <= 20), "{keywords:?}");
        assert!((1..=5).contains(&categories.len()), "{categories:?}");
        assert!(package["metadata"]["docs"]["rs"].is_object(), "{}", package["name"]);
    }
}

#[test]
fn packages_hold_sources_license_and_documents() {
    let guides =
        files_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../ha-redis-core").join(GUIDE)).len();
    for package in published() {
        let name = package["name"].as_str().unwrap();
        let list = cargo(&["package", "--list", "--allow-dirty", "--offline", "--package", name]);
        let (sources, others): (Vec<&str>, Vec<&str>) =
            list.lines().partition(|file| file.starts_with("src/"));
        assert!(sources.contains(&"src/lib.rs"), "{name}: {sources:?}");
        let (guide, mut others): (Vec<&str>, Vec<&str>) =
            others.into_iter().partition(|file| file.starts_with(GUIDE));
        assert_eq!(guide.len(), if name == "ha-redis-core" { guides } else { 0 }, "{name}: {guide:?}");
        others.retain(|file| *file != ".cargo_vcs_info.json"); // only where the files are committed
        assert_eq!(others, ["Cargo.lock", "Cargo.toml", "Cargo.toml.orig", "LICENSE", "README.md"], "{name}");
    }
}

/// A page of a registry or of docs.rs has only the package's own files. Definitions of links are another matter: those
/// of the guide are replaced for rustdoc.
#[test]
fn packaged_documents_link_to_no_files_in_place() {
    for package in published() {
        let folder = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap();
        for document in files_below(&folder.join(GUIDE)).into_iter().chain([folder.join("README.md")]) {
            let text = fs::read_to_string(&document).unwrap();
            for target in text.split("](").skip(1) {
                assert!(
                    target.starts_with(['#']) || target.starts_with("https://"),
                    "{} links to {:.40}",
                    document.display(),
                    target
                );
            }
        }
    }
}
