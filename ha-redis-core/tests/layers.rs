//! The layers of the core, as ARCHITECTURE.md draws them: each knows only those before it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of each layer, the lowest first. Those of one layer may know each other.
const LAYERS: [(&str, &[&str]); 11] = [
    (
        "values",
        &[
            "address",
            "alarm",
            "background_drop",
            "closing",
            "config",
            "coop_budget",
            "credentials",
            "error",
            "events",
            "generation",
            "manual_runtime",
            "resolver",
            "peer_text",
            "replica_choice",
            "runtime",
            "sync",
            "time",
            "wait_queue",
        ],
    ),
    ("proto", &["proto"]),
    ("command", &["command"]),
    ("retry", &["retry"]),
    ("topology", &["topology"]),
    ("routing", &["routing"]),
    ("conn", &["conn"]),
    ("node", &["node"]),
    ("tasks", &["tasks"]),
    ("call", &["call"]),
    ("API", &["client", "connection", "dedicated", "guide", "health", "pubsub", "sentinel_connection"]),
];

fn layer_of(module: &str) -> usize {
    let layer = LAYERS.iter().position(|(_, modules)| modules.contains(&module));
    layer.unwrap_or_else(|| {
        panic!("the module `{module}` is in no layer: add it to this test and to ARCHITECTURE.md")
    })
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => vec![path],
        })
        .collect()
}

/// The modules of the crate that a file uses outside of its tests.
fn uses(source: &str) -> BTreeSet<&str> {
    let code = source.split("#[cfg(test)]\nmod ").next().unwrap_or(source);
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let paths = lines.flat_map(|line| line.split("crate::").skip(1));
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    paths
        .map(|path| path.split(|c| !is_name(c)).next().unwrap_or_default())
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn each_layer_knows_only_those_before_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut checked = 0;
    for path in sources(&root) {
        let file = path.strip_prefix(&root).unwrap();
        let name = file.to_str().unwrap();
        // The root names everything. Tests may reach down and up.
        if name == "lib.rs"
            || !name.ends_with(".rs")
            || name.contains("test")
            || name.ends_with("driver_script.rs")
        {
            continue;
        }
        let module =
            file.iter().next().and_then(|part| Path::new(part).file_stem()).unwrap().to_str().unwrap();
        let own = layer_of(module);
        let source = fs::read_to_string(&path).unwrap();
        for used in uses(&source) {
            let layer = layer_of(used);
            assert!(
                layer <= own,
                "src/{name} is in the layer `{}` and uses crate::{used} of the layer `{}` above it",
                LAYERS[own].0,
                LAYERS[layer].0
            );
            checked += 1;
        }
    }
    assert!(checked > 300, "only {checked} uses were found: are the sources read?");
}

#[test]
fn uses_are_found_where_they_stand() {
    let source = "use crate::conn::link::Link;\n/// See crate::call.\nfn f() { crate::node::g() }\n#[cfg(test)]\nmod tests { use crate::tasks::x; }";
    assert_eq!(uses(source).into_iter().collect::<Vec<_>>(), ["conn", "node"]);
}
