//! Checks what the documents state about settings and URLs, and that their links resolve.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use ha_redis_config::Loader;
use ha_redis_tokio::RedisConfig;
use ha_redis_tokio::config::Setting;

const CONFIGURATION: &str = include_str!("../../ha-redis-core/docs/guide/configuration.md");
const CHOOSING_SETTINGS: &str = include_str!("../../ha-redis-core/docs/guide/choosing-settings.md");
const OPERATING: &str = include_str!("../../ha-redis-core/docs/guide/operating.md");
const COMING_FROM: &str = include_str!("../../ha-redis-core/docs/guide/coming-from.md");

/// Returns the rows of every table under this heading of the guide on the configuration, as the code in their cells.
fn rows(heading: &str) -> Vec<Vec<Vec<&'static str>>> {
    rows_of(CONFIGURATION, heading)
}

fn rows_of(document: &'static str, heading: &str) -> Vec<Vec<Vec<&'static str>>> {
    let mut lines = document.lines();
    let code = |cell: &'static str| cell.split('`').skip(1).step_by(2).collect();
    let mut rows = Vec::new();
    while lines.by_ref().any(|line| line == heading) {
        let table = lines.by_ref().skip(1).take_while(|line| line.starts_with('|'));
        rows.extend(table.map(|row| row.trim_matches('|').split('|').map(code).collect::<Vec<_>>()));
    }
    rows
}

#[test]
fn guide_urls_parse_as_documented() {
    let rows = rows("| URL | is read as |");
    assert!(rows.len() >= 8, "the table has rows");
    for row in rows {
        for url in &row[0] {
            let config: RedisConfig = url.parse().unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!([config.url().as_str()], *row[1], "{url}");
        }
    }
}

#[test]
fn guide_rejected_urls_fail() {
    let rows = rows("| URL | is rejected because |");
    assert!(rows.len() >= 7, "the table has rows");
    for url in rows.iter().flat_map(|row| &row[0]) {
        assert!(url.parse::<RedisConfig>().is_err(), "{url}");
    }
}

#[test]
fn guide_lists_every_setting() {
    let rows = rows("| setting | default | meaning |");
    let documented: BTreeSet<&str> = rows.iter().flat_map(|row| row[0].iter().copied()).collect();
    let settings: BTreeSet<&str> = Setting::all().map(Setting::name).collect();
    assert_eq!(documented, settings);
}

#[test]
fn guide_configurations_load() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("redis.toml");
    let load = |text: &str| {
        fs::write(&file, text).unwrap();
        let name = text.trim_start_matches('[').split(']').next().unwrap();
        let environment: [(&str, &str); 0] = [];
        let loader = Loader::new().file(&file).environment(environment);
        (name.to_owned(), loader.load(name).unwrap_or_else(|mistakes| panic!("{mistakes}")))
    };
    let blocks = CHOOSING_SETTINGS.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let configurations: BTreeMap<String, RedisConfig> = blocks.map(load).collect();
    assert_eq!(configurations.keys().collect::<Vec<_>>(), ["batch", "locks", "web", "worker"]);
    // What the arithmetic of the guide relies on.
    let web = &configurations["web"];
    let dead_connection = web.socket_timeout() + web.socket_connect_timeout();
    assert!(web.call_timeout().is_some_and(|whole| dead_connection < whole && web.failover_wait() <= whole));
    let worker = &configurations["worker"];
    assert!(worker.call_timeout().is_none() && worker.max_connections() > 16 + worker.shared_connections());
    assert!(configurations["locks"].sentinel_require_majority());
}

/// Returns the names that the rows of a table have for other clients' settings, after checking that ours are settings.
fn names_of(heading: &str) -> BTreeSet<&'static str> {
    let rows = rows_of(COMING_FROM, heading);
    for ours in rows.iter().flat_map(|row| &row[1]).filter(|ours| **ours != "url") {
        assert!(Setting::by_name(ours).is_some(), "{heading}: {ours}");
    }
    rows.into_iter().flat_map(|mut row| row.swap_remove(0)).collect()
}

#[test]
fn guide_maps_settings_of_other_clients() {
    let python = names_of("| `ha_redis` | here | difference |");
    let expected = [
        "db",
        "health_check_interval",
        "host",
        "max_connections",
        "password",
        "port",
        "retry_attempts",
        "retry_base_delay",
        "sentinel_hosts",
        "sentinel_master_name",
        "socket_connect_timeout",
        "socket_timeout",
        "ssl",
        "use_sentinel",
    ];
    assert_eq!(python, BTreeSet::from(expected), "all parameters of the Python library");
    assert!(python.iter().all(|name| Setting::by_name(name).is_some()), "under the same names");
    assert!(names_of("| redis-py | here | difference |").contains("unix_socket_path"));
    let spring = names_of("| `spring.data.redis.` | here | difference |");
    assert!(spring.contains("sentinel.master") && spring.contains("sentinel.nodes"));
    assert!(names_of("| `UniversalOptions` | here | difference |").contains("MasterName"));
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the Markdown files of these folders.
fn documents() -> Vec<PathBuf> {
    let runtimes = ["ha-redis-tokio", "ha-redis-async-std", "ha-redis-smol"];
    let folders = [
        ".",
        "docs",
        "docs/guide",
        "ha-redis-core",
        "ha-redis-core/docs/guide",
        "ha-redis-core/docs/guide/migrating",
        "examples",
        "ha-redis-testkit",
        "ha-redis-config",
    ]
    .into_iter()
    .chain(runtimes);
    let files = folders.flat_map(|folder| fs::read_dir(workspace().join(folder)).unwrap());
    let files = files.map(|file| file.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|extension| extension == "md")).collect()
}

/// Returns the targets of a document's inline links and link definitions, except those to other sites and within
/// the document.
fn links(text: &str) -> Vec<&str> {
    let inline = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let definitions =
        text.lines().filter(|line| line.starts_with('[')).filter_map(|line| line.split_once("]: "));
    let targets = inline.map(|(target, _)| target).chain(definitions.map(|(_, target)| target));
    let files = targets.filter(|target| !target.contains("://"));
    files.filter_map(|target| target.split('#').next().filter(|file| !file.is_empty())).collect()
}

#[test]
fn links_lead_to_files() {
    let mut checked = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for link in links(&text) {
            let target = document.parent().unwrap().join(link);
            assert!(target.exists(), "{} links to {link}", document.display());
            checked += 1;
        }
    }
    assert!(checked >= 20, "{checked} links were found");
}

/// Returns the files and folders of the repository that a document names in code, such as `conn/driver.rs`.
fn named_paths(text: &str) -> Vec<&str> {
    let is_path = |code: &&str| {
        let is_plain = code.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
        is_plain
            && code.contains('/')
            && (code.ends_with(".rs") || code.ends_with(".txt") || code.ends_with('/'))
    };
    let prose = text.split("```").step_by(2);
    prose.flat_map(|prose| prose.split('`').skip(1).step_by(2)).filter(is_path).collect()
}

#[test]
fn named_paths_exist() {
    let bases = [
        "",
        "ha-redis-core",
        "ha-redis-core/src",
        "ha-redis-testkit",
        "ha-redis-testkit/src",
        "ha-redis-testkit/src/conformance",
        "xtask/src",
    ];
    let mut checked = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for path in named_paths(&text).into_iter().filter(|path| !path.starts_with(['/', '.'])) {
            // What runs leave behind is not there before.
            if path.starts_with("target/") {
                continue;
            }
            let exists = bases.iter().any(|base| workspace().join(base).join(path).exists());
            assert!(exists, "{} names `{path}`", document.display());
            checked += 1;
        }
    }
    assert!(checked >= 40, "{checked} paths were found");
}

/// Returns the labels of a document's link definitions.
fn labels(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: ").map(|(label, _)| label))
}

/// rustdoc uses the first definition of a label. Without a definition in the source file, the link would lead to a
/// file or to another crate's pages.
#[test]
fn included_documents_define_links_for_rustdoc() {
    let included = |document: PathBuf, source: PathBuf| {
        let (text, source) =
            (fs::read_to_string(&document).unwrap(), fs::read_to_string(workspace().join(source)).unwrap());
        // In a file with many modules, this finds the one that includes the document.
        let name = document.file_name().unwrap().to_str().unwrap();
        let include = source.find(name).unwrap_or_else(|| panic!("{} is included", document.display()));
        let start = source[..include].rfind("\n\n").unwrap_or(0);
        for label in labels(&text) {
            let definition = format!(" [{label}]: crate::");
            assert!(source[start..include].contains(&definition), "{}: {label}", document.display());
        }
        labels(&text).count()
    };
    let folders = ["ha-redis-core/docs/guide", "ha-redis-core/docs/guide/migrating"];
    let is_guide =
        |document: &PathBuf| folders.iter().any(|folder| document.parent().unwrap().ends_with(folder));
    let guides = documents().into_iter().filter(is_guide);
    let guides: usize = guides.map(|guide| included(guide, "ha-redis-core/src/guide.rs".into())).sum();
    let runtimes = ["tokio", "async-std", "smol"].map(|runtime| {
        let folder = PathBuf::from(format!("ha-redis-{runtime}"));
        included(workspace().join(&folder).join("README.md"), folder.join("src/lib.rs"))
    });
    assert!(guides >= 10 && runtimes.into_iter().all(|links| links >= 10), "{guides}, {runtimes:?}");
}

#[test]
fn guide_lists_alerts_with_their_severities() {
    let alerts = include_str!("../../compose/observe/alerts.yml");
    let severity = |rule: &'static str| rule.split("severity: ").nth(1)?.split('}').next();
    let rules: BTreeMap<&str, &str> = alerts
        .split("- alert: ")
        .skip(1)
        .map(|rule| (rule.lines().next().unwrap(), severity(rule).unwrap()))
        .collect();
    let table = OPERATING.split("| alert | severity |").nth(1).unwrap().lines().skip(2);
    let documented: BTreeMap<&str, &str> = table
        .take_while(|line| line.starts_with('|'))
        .map(|row| row.split(" | ").collect::<Vec<_>>())
        .map(|cells| (cells[0].trim_matches(['|', ' ', '`']), cells[1]))
        .collect();
    assert!(rules.len() >= 10, "{rules:?}");
    assert_eq!(documented, rules);
}

/// Returns the words that look like names of the example's metrics.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("redis_")).map(|word| word.trim_end_matches("_bucket")).collect()
}

#[test]
fn dashboard_and_alerts_use_metrics_of_http_service() {
    let source = include_str!("../http_service/metrics.rs");
    let described: BTreeSet<&str> =
        source.split("describe_").skip(2).flat_map(|call| metrics_in(call.lines().next().unwrap())).collect();
    let dashboard = metrics_in(include_str!("../../compose/observe/dashboard.json"));
    let alerts = metrics_in(include_str!("../../compose/observe/alerts.yml"));
    assert!(dashboard.len() >= 10 && alerts.len() >= 10, "{dashboard:?} {alerts:?}");
    let guide = metrics_in(OPERATING.split("## Alerts").nth(1).unwrap());
    let used = dashboard.iter().chain(&alerts).chain(&guide);
    let unknown: Vec<_> = used.filter(|metric| !described.contains(*metric)).collect();
    assert!(unknown.is_empty(), "{unknown:?} are not in {described:?}");
}
