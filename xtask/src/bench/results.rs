//! All measurements of a run.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::figures::{Figure, Figures, median};
use super::machine::{self, Machine};
use super::plan::{Case, Client, Plan};
use super::targets::comparisons;

#[derive(Debug)]
pub(super) struct Results {
    pub(super) machine: Machine,
    /// The versions of the clients' packages.
    pub(super) versions: BTreeMap<&'static str, String>,
    pub(super) rounds: u32,
    pub(super) seconds: f64,
    /// ha-redis on the chosen runtime.
    pub(super) ours: Client,
    pub(super) clients: Vec<Client>,
    pub(super) cases: Vec<Case>,
    pub(super) instructions: BTreeMap<Client, f64>,
    runs: BTreeMap<(Case, Client), Vec<Figures>>,
}

impl Results {
    pub(super) fn new(machine: Machine, plan: &Plan) -> Self {
        Self {
            machine,
            versions: machine::versions(&plan.clients),
            rounds: plan.rounds,
            seconds: plan.seconds,
            ours: plan.runtime.ours(),
            clients: plan.clients.clone(),
            cases: plan.cases.clone(),
            instructions: BTreeMap::new(),
            runs: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, case: Case, client: Client, figures: Figures) {
        self.runs.entry((case, client)).or_default().push(figures);
    }

    /// Returns the median over the rounds, or `None` if it was not measured.
    pub(super) fn median(&self, case: Case, client: Client, figure: Figure) -> Option<f64> {
        let runs = self.runs.get(&(case, client))?;
        median(runs.iter().filter_map(|run| figure.of(run)).collect())
    }

    /// Returns the memory of the callers in MB, without the memory of the harness itself.
    pub(super) fn memory(&self, client: Client) -> Option<f64> {
        let peak = |client| self.median(Case::MEMORY, client, Figure::Memory);
        Some((peak(client)? - peak(Client::Nothing)?) * 1024.0 / 1e6)
    }

    /// Returns the failed calls: the case, how many, and the first error message.
    pub(super) fn failures(&self) -> impl Iterator<Item = (Case, Client, u64, &str)> {
        self.runs.iter().filter_map(|((case, client), runs)| {
            let first = runs.iter().find_map(|run| run.failure.as_deref())?;
            Some((*case, *client, runs.iter().map(|run| run.failures).sum(), first))
        })
    }

    /// Returns all results, with every single measurement.
    pub(super) fn json(&self) -> Value {
        let measurements = self.runs.iter().map(|((case, client), runs)| {
            let median = |figure| self.median(*case, *client, figure);
            json!({
                "workload": case.workload.name(),
                "tasks": case.tasks,
                "client": client.name(),
                "median": {
                    "per_second": median(Figure::Throughput),
                    "cpu_us": median(Figure::Cpu),
                    "p50_us": median(Figure::P50),
                    "p99_us": median(Figure::P99),
                    "p999_us": median(Figure::P999),
                    "peak_kib": median(Figure::Memory),
                    "background_per_second": median(Figure::Background),
                },
                "runs": runs,
            })
        });
        let memory = self.clients.iter().filter_map(|client| Some((client.name(), self.memory(*client)?)));
        json!({
            "machine": self.machine,
            "versions": self.versions,
            "rounds": self.rounds,
            "seconds": self.seconds,
            "measurements": measurements.collect::<Vec<_>>(),
            "comparisons": self.comparisons(),
            "instructions_per_get": self.instructions,
            "memory_mb": memory.collect::<BTreeMap<_, _>>(),
        })
    }

    fn comparisons(&self) -> Vec<Value> {
        let of = |case: Case| {
            comparisons(self.ours).iter().filter_map(move |comparison| {
                let (ratio, target) = (comparison.ratio(self, case)?, comparison.target(case));
                Some(json!({
                    "workload": case.workload.name(),
                    "tasks": case.tasks,
                    "what": comparison.title(),
                    "ratio": ratio,
                    "target": target.map(|target| target.text()),
                    "met": target.map(|target| target.is_met(ratio)),
                }))
            })
        };
        self.cases.iter().flat_map(|case| of(*case)).collect()
    }
}
