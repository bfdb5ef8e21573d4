//! Instructions per call, counted by callgrind: the only figure that does not depend on the load of the machine.

use std::process::{Command, Stdio};

use super::plan::{Case, Client, Workload};
use super::probe::Probe;

const CASE: Case = Case { workload: Workload::Get64, tasks: 64 };

/// The difference between two runs is the cost of the additional calls. One-time work is in both.
const CALLS: [u64; 2] = [6_400, 32_000];

/// Returns true if valgrind is installed.
pub(super) fn can_be_counted() -> bool {
    let mut question = Command::new("valgrind");
    question.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    question.status().is_ok_and(|status| status.success())
}

/// Returns the user-space instructions of a GET of 64 bytes, with 64 tasks on one thread.
pub(super) fn per_call(probe: &Probe, client: Client) -> Result<f64, String> {
    let [few, many] = CALLS.map(|calls| {
        let output = probe.count_instructions(client, CASE, calls)?;
        collected(&output).ok_or_else(|| format!("callgrind reported no instructions for {}", client.name()))
    });
    Ok((many? - few?) / (CALLS[1] - CALLS[0]) as f64)
}

/// Parses the number in `==123== Collected : 4567`.
fn collected(output: &str) -> Option<f64> {
    let (_, number) = output.lines().find_map(|line| line.split_once("Collected :"))?;
    number.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callgrind_output_parsed() {
        assert_eq!(collected("==1== \n==1== Events    : Ir\n==1== Collected : 4567\n"), Some(4567.0));
        assert_eq!(collected("==1== no such file\n"), None);
    }
}
