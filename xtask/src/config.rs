//! `cargo xtask config`: explains a configuration, and writes the JSON Schema of configuration files.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use ha_redis_config::Loader;

use crate::{Outcome, output};

/// Explain a configuration, or write the JSON Schema of configuration files
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the settings that are in effect and where each comes from: the file, the environment or the defaults
    Explain {
        /// The configuration file: TOML, YAML or JSON
        file: PathBuf,
        /// The configuration; without it, what all configurations share, and the mistakes of all of them
        name: Option<String>,
        /// A folder with one file for each secret
        #[arg(long)]
        secrets_dir: Option<PathBuf>,
        /// A file of NAME=value lines
        #[arg(long)]
        dotenv: Option<PathBuf>,
    },
    /// Write `ha-redis-config/redis-config.schema.json`
    Schema,
}

pub(crate) fn run(options: &Options) -> Outcome {
    match &options.command {
        Command::Explain { file, name, secrets_dir, dotenv } => {
            let loader = Loader::new().file(file);
            let loader = secrets_dir.iter().fold(loader, Loader::secrets_dir);
            let loader = dotenv.iter().fold(loader, Loader::dotenv);
            explain(&loader, name.as_deref())
        }
        Command::Schema => write_schema(),
    }
}

/// Prints the table also if there are mistakes, which follow as the error. Without a name, the mistakes are those of all
/// configurations in the file.
fn explain(loader: &Loader, name: Option<&str>) -> Outcome {
    let loaded = name.map_or_else(|| loader.read_default(), |name| loader.read(name));
    let named: Vec<&str> = loaded.names().filter(|_| name.is_none()).collect();
    let names = match named.is_empty() {
        true => String::new(),
        false => format!("\nconfigurations in the file: {}\n", named.join(", ")),
    };
    // Not `println!`, which panics when a pager closes the pipe.
    write!(io::stdout(), "{}\n{names}", loaded.explain()).map_err(|error| error.to_string())?;
    let errors = std::iter::once(loaded.config()).chain(named.iter().map(|name| loader.load(name)));
    // What all share is in the report of each of them.
    let mut mistakes: Vec<String> = Vec::new();
    for error in errors.filter_map(Result::err) {
        let lines = error.to_string();
        let lines = lines.lines().filter(|line| !mistakes.iter().any(|known| known == line));
        mistakes.extend(lines.map(str::to_owned).collect::<Vec<_>>());
    }
    match mistakes.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Err(format!("the configuration has mistakes:\n{}", mistakes.join("\n"))),
    }
}

fn write_schema() -> Outcome {
    let path = output::workspace().join("ha-redis-config/redis-config.schema.json");
    fs::write(&path, ha_redis_config::json_schema())
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(ExitCode::SUCCESS)
}
