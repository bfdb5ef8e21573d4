//! `cargo xtask compose-test`: what callers on the host and in a container see while a server of `docker-compose.yml`
//! fails.

mod callers;
mod engine;
mod fault;
mod image;
mod machine;
mod stack;

use std::process::ExitCode;

use self::callers::Location;
use self::engine::Engine;
use self::fault::Fault;
use self::image::{Images, Pull};
use self::machine::{Obstacle, OnlyRun};
use self::stack::{Profile, Stack};
use crate::Outcome;

/// Test docker-compose.yml: start its servers, let them fail, and check what callers see
///
/// The callers run on the host and in a container, at the same time. All containers are removed at the end. Where no image
/// of Redis can be downloaded, a stand-in is made of the server program of this machine.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The profile [default: all that have Sentinels]
    #[arg(long, value_enum)]
    profile: Option<Profile>,
    /// The fault [default: all]
    #[arg(long, value_enum)]
    fault: Option<Fault>,
    /// How often each fault is caused
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

pub(crate) fn run(options: &Options) -> Outcome {
    let profiles = options.profile.map_or(vec![Profile::Ha, Profile::Tls], |profile| vec![profile]);
    let faults = options.fault.map_or(Fault::ALL.to_vec(), |fault| vec![fault]);
    let plan: Plan =
        profiles.into_iter().map(|profile| (profile, faults.repeat(options.runs as usize))).collect();
    match run_plan(&plan, Pull::Allowed) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(Obstacle::Machine(reason) | Obstacle::Failure(reason)) => Err(reason),
    }
}

/// Runs each fault once, with TLS only the one that makes the most connections, and downloads nothing. Prints why if this
/// machine cannot run it.
pub(crate) fn run_where_possible() -> Result<(), String> {
    let plan = vec![(Profile::Ha, Fault::ALL.to_vec()), (Profile::Tls, vec![Fault::Kill])];
    match run_plan(&plan, Pull::Never) {
        Err(Obstacle::Machine(reason)) => {
            eprintln!("SKIPPED: the test of docker-compose.yml: {reason}");
            Ok(())
        }
        Err(Obstacle::Failure(reason)) => Err(reason),
        Ok(()) => Ok(()),
    }
}

/// The faults to cause, in order.
type Plan = Vec<(Profile, Vec<Fault>)>;

fn run_plan(plan: &Plan, pull: Pull) -> Result<(), Obstacle> {
    let engine = Engine::find().map_err(Obstacle::Machine)?;
    let _only_run = OnlyRun::begin(&engine)?;
    let images = Images::prepare(&engine, pull)?;
    engine.check_machine(images.callers).map_err(Obstacle::Machine)?;
    let mut broken = 0;
    for (profile, faults) in plan {
        let stack = Stack::start(&engine, &images, *profile)?;
        for fault in faults {
            broken += trial(&stack, &images, *fault)?;
        }
    }
    match broken {
        0 => Ok(()),
        _ => Err(Obstacle::Failure(format!("{broken} runs broke a promise of the client"))),
    }
}

/// Causes one fault under callers in both places. Returns how many of them saw a broken promise.
fn trial(stack: &Stack<'_>, images: &Images<'_>, fault: Fault) -> Result<usize, String> {
    let master = stack.master()?;
    let start = |location| callers::start(stack, images, location, fault);
    let callers = Location::ALL.into_iter().map(start).collect::<Result<Vec<_>, _>>()?;
    callers.iter().try_for_each(|callers| callers.wait_for_answers(master))?;
    let repair = fault.cause(stack, master)?;
    let new_master = stack.wait_for_master_after(master)?;
    callers.iter().try_for_each(|callers| callers.wait_for_answers(new_master))?;
    let mut broken = 0;
    for callers in callers {
        let location = callers.location.name();
        let summary = callers.finish()?;
        let mark = if summary.kept { '✓' } else { '✗' };
        println!("{mark} {} {} {location}: {summary}", stack.profile.name(), fault.name());
        broken += usize::from(!summary.kept);
    }
    repair(stack)?;
    stack.wait_until_healthy()?;
    Ok(broken)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ha_redis_config::Loader;
    use ha_redis_tokio::{Address, RedisConfig};

    use crate::output::workspace;

    fn settings(file: &str) -> RedisConfig {
        let no_variables: [(String, String); 0] = [];
        let loader = Loader::new().environment(no_variables).dotenv(workspace().join("compose").join(file));
        loader.load_default().unwrap()
    }

    /// Returns what the services of a profile announce. Their environment is on the line after their kind.
    fn announced(profile: &str, kind: &str) -> Vec<Address> {
        let file = fs::read_to_string(workspace().join("docker-compose.yml")).unwrap();
        let lines: Vec<&str> = file.lines().collect();
        let kind = format!("    <<: *{profile}-{kind}");
        let environments = lines.windows(2).filter(|pair| pair[0] == kind).map(|pair| pair[1]);
        let value = |environment: &str, name: &str| {
            let value = environment.split_once(name).unwrap().1.trim_start_matches([':', ' ', '"']);
            value.split([',', '}', '"']).next().unwrap().to_owned()
        };
        let address = |line| Address::tcp(value(line, "ADDRESS"), value(line, "PORT").parse().unwrap());
        environments.map(address).collect()
    }

    #[test]
    fn settings_match_compose_file() {
        for profile in ["ha", "tls"] {
            let (servers, sentinels) = (announced(profile, "server"), announced(profile, "sentinel"));
            assert_eq!((servers.len(), sentinels.len()), (3, 3), "{profile}");
            assert_eq!(settings(&format!("{profile}/container.env")).sentinel_hosts(), sentinels);
            let host = settings(&format!("{profile}/host.env"));
            let certificates =
                fs::read_to_string(workspace().join("compose/tls/make-certificates.sh")).unwrap();
            let reached = |addresses: &[Address]| {
                addresses.iter().map(|address| host.address_map().reach(address)).collect::<Vec<_>>()
            };
            let on_host = |address: &Address| match address {
                Address::Tcp { host, port } => {
                    let last = host.rsplit('.').next().unwrap();
                    assert!(
                        profile == "ha" || certificates.contains(&format!(" {last}")),
                        "no certificate for {host}"
                    );
                    Some(Address::tcp("127.0.0.1", *port))
                }
                _ => None,
            };
            assert_eq!(reached(&servers), servers.iter().map(on_host).collect::<Vec<_>>());
            assert_eq!(
                reached(&sentinels),
                host.sentinel_hosts().iter().cloned().map(Some).collect::<Vec<_>>()
            );
        }
    }
}
