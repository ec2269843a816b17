//! The laboratory's command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lab::kafka::Flavour;
use lab::{Lab, LabError, Options, Paths, Progress, Result, Sandbox};

/// Kubernetes, Kafka, Keystone and Neutron of real parts, in namespaces of their own on this machine.
#[derive(Parser)]
#[command(name = "lab", bin_name = "cargo lab")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start what does not run; install and build what is missing
    Up {
        /// The Kafka to deploy into namespace ydata: zookeeper, kraft, kraft-100 or none
        #[arg(long, default_value = "zookeeper", value_parser = kafka_option)]
        kafka: KafkaOption,
        /// Start one part only
        #[arg(long)]
        only: Option<Only>,
    },
    /// End the lab; nothing of it is left on the machine but the cache
    Down,
    /// Show the parts, alive or not, and their memory
    Status,
    /// Run a command inside the lab, with KUBECONFIG set and kubectl in PATH
    #[command(trailing_var_arg = true)]
    Exec {
        /// The command and its arguments
        #[arg(required = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Run kubectl as administrator
    #[command(disable_help_flag = true)]
    Kubectl {
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Print the log of a part; without a part, the names of all
    Logs {
        /// As `status` shows it
        part: Option<String>,
    },
    /// Deploy or remove further Kafkas
    #[command(subcommand)]
    Kafka(KafkaVerb),
    /// The CNI plugin
    #[command(name = lab::cloud::cni::SUBCOMMAND, hide = true)]
    NeutronPort,
    /// The first process of the sandbox
    #[command(name = lab::HOLDER_SUBCOMMAND, hide = true)]
    Init,
}

#[derive(Subcommand)]
enum KafkaVerb {
    /// Deploy it and wait until every broker is registered
    Up {
        /// Which Kafka
        flavour: Flavour,
        /// Where
        #[arg(long)]
        namespace: String,
    },
    /// Remove it with its namespace and its data
    Down {
        /// Which Kafka
        flavour: Flavour,
        /// Where
        #[arg(long)]
        namespace: String,
    },
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Only {
    /// Keystone, Neutron and the router
    Cloud,
}

#[derive(Clone, Copy)]
struct KafkaOption(Option<Flavour>);

fn kafka_option(text: &str) -> std::result::Result<KafkaOption, String> {
    if text == "none" {
        return Ok(KafkaOption(None));
    }
    clap::ValueEnum::from_str(text, false).map(|flavour| KafkaOption(Some(flavour)))
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::NeutronPort => return Ok(lab::cloud::cni::run()),
        Verb::Init => lab::hold(&Paths::from_environment())?,
        Verb::Up { only: Some(Only::Cloud), .. } => {
            lab::cloud::up_alone(&Paths::from_environment(), &program(), &Progress::shown())?;
        }
        Verb::Up { kafka, only: None } => up(kafka.0)?,
        Verb::Down => Lab::down()?,
        Verb::Status => return status(),
        Verb::Exec { command } => return exec(&command),
        Verb::Kubectl { arguments } => {
            let command: Vec<OsString> = std::iter::once("kubectl".into()).chain(arguments).collect();
            return exec(&command);
        }
        Verb::Logs { part } => logs(part)?,
        Verb::Kafka(KafkaVerb::Up { flavour, namespace }) => {
            let lab = Lab::attach()?;
            let kafka = lab.kafka(flavour, &namespace);
            kafka.deploy(&Progress::shown())?;
            kafka.wait_ready()?;
        }
        Verb::Kafka(KafkaVerb::Down { flavour, namespace }) => {
            Lab::attach()?.kafka(flavour, &namespace).remove()?
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn program() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("lab"))
}

fn up(kafka: Option<Flavour>) -> Result<()> {
    let progress = Progress::shown();
    let lab = Lab::up(&Options { program: program(), kafka }, &progress)?;
    progress.say(&format!("the lab is up; {} MiB", lab.sandbox().memory() >> 20));
    progress.say("look around: cargo lab kubectl get pods -A; cargo lab status; end it: cargo lab down");
    Ok(())
}

/// Code 1 when a part is down or no lab runs, as a service's status has it.
fn status() -> Result<ExitCode> {
    let lab = Lab::attach()?;
    let parts = lab.parts();
    for part in &parts {
        let state = if part.alive() { "up" } else { "down" };
        println!(
            "{:24} {state:5} pid {:<7} {:5} MiB",
            part.name,
            part.process.pid,
            part.process.memory() >> 20
        );
    }
    println!("{:24} {:5} {:11} {:5} MiB", "all, with pods", "", "", lab.sandbox().memory() >> 20);
    Ok(if parts.iter().all(lab::Part::alive) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Ends with the command's own code; 128 and the signal's number when a signal ended it, as shells have it.
fn exec(command: &[OsString]) -> Result<ExitCode> {
    use std::os::unix::process::ExitStatusExt;
    let Some((program, arguments)) = command.split_first() else { return Ok(ExitCode::FAILURE) };
    let command = match Lab::attach() {
        Ok(lab) => lab.command(&program.to_string_lossy()),
        // The cloud may run alone.
        Err(error) => Sandbox::attach(&Paths::from_environment()).ok_or(error)?.command(program),
    };
    let status = command.args(arguments).status()?;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

fn logs(part: Option<String>) -> Result<()> {
    let paths = Paths::from_environment();
    let Some(part) = part else {
        let files = std::fs::read_dir(paths.logs()).map_err(|_| LabError::NotRunning)?;
        let mut names: Vec<String> =
            files.flatten().map(|file| file.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names.iter().for_each(|name| println!("{}", name.trim_end_matches(".log")));
        return Ok(());
    };
    print!("{}", lab::read_file(&paths.log(&part))?);
    Ok(())
}
