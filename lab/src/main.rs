//! The laboratory's command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

use clap::{Parser, Subcommand};
use lab::cloud::{Cloud, Machine};
use lab::kafka::Flavour;
use lab::{Cache, Context, Lab, LabError, Options, Paths, Process, Progress, Result, Sandbox};
use nix::sys::signal::{SigSet, Signal};

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
    /// Print the clouds.yaml of the project that owns the pods' network
    CloudsYaml,
    /// Print the log of a part; without a part, the names of all
    Logs {
        /// As `status` shows it
        part: Option<String>,
    },
    /// Deploy or remove further Kafkas
    #[command(subcommand)]
    Kafka(KafkaVerb),
    /// Run a command on the virtual machine, which reaches floating IPs only (see vm-reaches-pods)
    #[command(trailing_var_arg = true)]
    Vm {
        /// The command and its arguments
        #[arg(required = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Say whether pods reach floating IPs of the pods' network
    Hairpin {
        /// Whether they do
        state: Switch,
    },
    /// Say whether the virtual machine reaches pods at their own addresses
    VmReachesPods {
        /// Whether it does
        state: Switch,
    },
    /// Build the operator's container image of this checkout; needs no lab
    Image {
        /// Profile of cargo: dev is built quickly, from what the tests have built
        #[arg(long, default_value = "release")]
        profile: String,
    },
    /// Run helm as administrator of the lab, if one runs
    #[command(disable_help_flag = true)]
    Helm {
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run promtool, which checks and tests rules of Prometheus; needs no lab
    #[command(disable_help_flag = true)]
    Promtool {
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// The cloud's router
    #[command(name = lab::cloud::gateway::SUBCOMMAND, hide = true)]
    Gateway,
    /// The virtual machine
    #[command(name = lab::cloud::machine::SUBCOMMAND, hide = true)]
    Machine,
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

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Switch {
    /// So it is
    On,
    /// So it is not, as in many clouds
    Off,
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
        Verb::Vm { command } => return on_machine(&command),
        Verb::Hairpin { state } => cloud()?.set_hairpin(state == Switch::On)?,
        Verb::VmReachesPods { state } => cloud()?.set_machine_to_pods(state == Switch::On)?,
        Verb::Image { profile } => {
            let here = std::env::current_dir().to(|| "find the working folder".to_owned())?;
            let image = lab::image::operator(&here, &profile, &Progress::shown())?;
            println!("{} in {}", image.name, image.archive.display());
        }
        Verb::Helm { arguments } => return helm(&arguments),
        Verb::Promtool { arguments } => return promtool(&arguments),
        Verb::Gateway => lab::cloud::gateway::run(&Paths::from_environment())?,
        Verb::Machine => lab::cloud::machine::hold(&Paths::from_environment())?,
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
        Verb::CloudsYaml => {
            let lab = Lab::attach()?;
            print!("{}", lab.cloud().clouds_yaml(&lab.cloud().facts().demo));
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

fn cloud() -> Result<Cloud> {
    let paths = Paths::from_environment();
    let sandbox = Sandbox::attach(&paths).ok_or(LabError::NotRunning)?;
    Cloud::attach(&sandbox, &Cache::new(&paths))
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

fn on_machine(command: &[OsString]) -> Result<ExitCode> {
    let Some((program, arguments)) = command.split_first() else { return Ok(ExitCode::FAILURE) };
    let sandbox = Sandbox::attach(&Paths::from_environment()).ok_or(LabError::NotRunning)?;
    foreground(Machine::attach(&sandbox)?.command(program).args(arguments))
}

/// Ends with the command's own code; 128 and the signal's number when a signal ended it, as shells have it.
fn exit_code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Rendering, checking and packing charts needs no lab, and nothing of this machine's own clusters.
fn helm(arguments: &[OsString]) -> Result<ExitCode> {
    if let Ok(lab) = Lab::attach() {
        return foreground(lab.command("helm").args(arguments));
    }
    let program = lab::kubernetes::helm(&Cache::new(&Paths::from_environment()), &Progress::shown())?;
    let mut command = std::process::Command::new(program);
    let status = command.args(arguments).env_remove("KUBECONFIG").status().to(|| "run helm".to_owned())?;
    Ok(exit_code(status))
}

fn promtool(arguments: &[OsString]) -> Result<ExitCode> {
    let cache = Cache::new(&Paths::from_environment());
    let program = lab::prometheus::Prometheus::get(&cache, &Progress::shown())?.promtool();
    let status = std::process::Command::new(program).args(arguments).status();
    status.to(|| "run promtool".to_owned()).map(exit_code)
}

fn exec(command: &[OsString]) -> Result<ExitCode> {
    let Some((program, arguments)) = command.split_first() else { return Ok(ExitCode::FAILURE) };
    let command = match Lab::attach() {
        Ok(lab) => lab.command(&program.to_string_lossy()),
        // The cloud may run alone.
        Err(error) => Sandbox::attach(&Paths::from_environment()).ok_or(error)?.command(program),
    };
    foreground(command.args(arguments))
}

/// Runs it to its end. Who ends this process means the command: the terminal tells both, everybody else only this one.
fn foreground(command: lab::Command) -> Result<ExitCode> {
    // Started first: a child inherits blocked signals.
    let mut child = command.spawn()?;
    let process = Process::current(child.id())?;
    let passed_on = SigSet::from_iter([Signal::SIGTERM, Signal::SIGHUP]);
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT])
        .thread_block()
        .to(|| "block signals".to_owned())?;
    std::thread::spawn(move || {
        while let Ok(signal) = passed_on.wait() {
            // Its end is waited for below, whatever comes of this.
            process.signal(signal).ok();
        }
    });
    child.wait().to(|| "wait for the command".to_owned()).map(exit_code)
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
