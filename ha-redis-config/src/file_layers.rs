//! The layers of a configuration file: what all configurations share, and what each one sets.

use std::collections::BTreeMap;
use std::path::Path;

use ha_redis_core::config::Problem;

use crate::file::{Table, Value};
use crate::key::Key;
use crate::layer::Layer;
use crate::names;

/// A file, taken apart. The layers are made only for what is loaded, so that a mistake in one configuration does not
/// keep another from starting.
#[derive(Debug, Default)]
pub(crate) struct Configurations {
    shown: String,
    shared: Table,
    named: BTreeMap<String, (usize, Table)>,
    problems: Vec<Problem>,
}

impl Configurations {
    /// Takes the tables of the file that are not values of settings as configurations.
    pub(crate) fn new(path: &Path, table: Table) -> Self {
        let mut this = Self { shown: path.display().to_string(), ..Self::default() };
        for (key, node) in table {
            let line = node.line;
            match node.value {
                Value::Table(table) if Key::of(&key).is_none() => {
                    if let Err(problem) = names::check(&key) {
                        this.problems.push(problem.with_origin(this.origin(line)));
                    }
                    this.named.insert(key, (line, table));
                }
                _ => {
                    this.shared.insert(key, node);
                }
            }
        }
        for (name, problem) in names::check_together(this.named.keys().map(String::as_str)) {
            let line = this.named.get(name).map_or(1, |(line, _)| *line);
            this.problems.push(problem.with_origin(format!("{}:{line}", this.shown)));
        }
        this
    }

    /// Returns the names of the configurations, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }

    /// Returns the layers of one configuration, the lowest first.
    pub(crate) fn layers(mut self, name: Option<&str>) -> Vec<Layer> {
        let mut shared = self.layer(&self.shared);
        self.problems.drain(..).for_each(|problem| shared.add_problem(problem));
        let Some(name) = name else { return vec![shared] };
        match self.named.get(name) {
            Some((_, table)) => vec![shared, self.layer(table)],
            None => {
                shared.add_problem(self.unknown(name));
                vec![shared]
            }
        }
    }

    fn layer(&self, table: &Table) -> Layer {
        let mut layer = Layer::default();
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(_, node)| node.line);
        for (name, node) in entries {
            layer.add_node(name, node, self.origin(node.line));
        }
        layer
    }

    fn unknown(&self, name: &str) -> Problem {
        let names = self.names().collect::<Vec<_>>().join(", ");
        let (allowed, remedy) = match names.is_empty() {
            true => (
                "no name, since the file has no named configurations".into(),
                "load the default configuration",
            ),
            false => (format!("one of {names}"), "correct the name, or add the configuration to the file"),
        };
        Problem::new("configuration", allowed, remedy).found(name).with_origin(&*self.shown)
    }

    fn origin(&self, line: usize) -> String {
        format!("{}:{line}", self.shown)
    }
}
