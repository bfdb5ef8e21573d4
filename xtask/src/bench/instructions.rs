//! Instructions for a call, counted by callgrind: the one figure that does not depend on the machine's mood.

use std::process::{Command, Stdio};

use super::plan::{Case, Client, Workload};
use super::probe::Probe;

const CASE: Case = Case { workload: Workload::Get64, tasks: 64 };

/// The difference of two runs is that of so many calls: what happens once is in both.
const CALLS: [u64; 2] = [6_400, 32_000];

/// Whether there is a valgrind.
pub(super) fn can_be_counted() -> bool {
    let mut question = Command::new("valgrind");
    question.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    question.status().is_ok_and(|status| status.success())
}

/// The instructions in user space of a GET of 64 bytes, with 64 tasks on one thread.
pub(super) fn per_call(probe: &Probe, client: Client) -> Result<f64, String> {
    let [few, many] = CALLS.map(|calls| {
        let said = probe.count_instructions(client, CASE, calls)?;
        collected(&said).ok_or_else(|| format!("callgrind told no instructions of {}", client.name()))
    });
    Ok((many? - few?) / (CALLS[1] - CALLS[0]) as f64)
}

/// The number in `==123== Collected : 4567`.
fn collected(said: &str) -> Option<f64> {
    let (_, number) = said.lines().find_map(|line| line.split_once("Collected :"))?;
    number.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_callgrind_is_found() {
        assert_eq!(collected("==1== \n==1== Events    : Ir\n==1== Collected : 4567\n"), Some(4567.0));
        assert_eq!(collected("==1== no such file\n"), None);
    }
}
