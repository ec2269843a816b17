//! The command line: one program with two names, its own and that of a plugin of kubectl.

use std::{ffi::OsString, path::Path, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use kube::CustomResourceExt;

use super::{bootstrap, failed, report, show, status, top};
use crate::{
    api::{KafkaExternalAccess, KafkaExternalAccessClass},
    check, hosts, preview, runtime, verify,
};

/// The program's own name.
const PROGRAM: &str = "kafka-external-access";
/// kubectl looks for this file when it is asked for `kubectl kafka-access`, and for the second to complete its arguments.
const PLUGIN: &str = "kubectl-kafka_access";
const COMPLETER: &str = "kubectl_complete-kafka_access";

/// Gives every Kafka broker a floating IP for life.
#[derive(Parser)]
#[command(version, name = PROGRAM, after_help = "Exit codes stand in the help of each command. Colours: on a terminal, unless NO_COLOR is set.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show what objects have come to, as a tree
    Status(status::StatusArgs),
    /// Show who carries how much of what it may carry
    Top(top::TopArgs),
    /// Show what the operator would do, and do nothing
    Plan(preview::PlanArgs),
    /// Say whether it works, or would, and what to do if not
    Check(check::CheckArgs),
    /// Print what a client is configured with
    Bootstrap(bootstrap::BootstrapArgs),
    /// Write a support bundle without secrets
    Report(report::ReportArgs),
    /// Keep the brokers' names in /etc/hosts right
    Hosts(hosts::HostsArgs),
    /// Prove that the operator of this cluster works; no Kafka and no cloud are needed
    Verify(verify::VerifyArgs),
    /// Print the CustomResourceDefinitions
    Crd {
        /// Only this kind
        #[arg(long)]
        kind: Option<String>,
    },
    /// Run the operator
    Run(runtime::RunArgs),
    /// Print the script that completes this command line
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Runs what the arguments say; the first is the name of the program.
pub async fn main(arguments: Vec<OsString>) -> ExitCode {
    let called = arguments.first().map(Path::new).and_then(Path::file_name);
    let called = called.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if called == COMPLETER {
        return complete(arguments);
    }
    let name = if called == PLUGIN { "kubectl kafka-access" } else { PROGRAM };
    let matches = Arguments::command().name(name).bin_name(name).get_matches_from(arguments);
    match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => run(arguments.command).await,
        Err(error) => error.exit(),
    }
}

async fn run(command: Command) -> ExitCode {
    match command {
        Command::Status(args) => status::run(args).await,
        Command::Top(args) => top::run(args).await,
        Command::Plan(args) => preview::run(args).await,
        Command::Check(args) => check::run(args).await,
        Command::Bootstrap(args) => bootstrap::run(args).await,
        Command::Report(args) => report::run(args).await,
        Command::Hosts(args) => hosts::run(args).await,
        Command::Verify(args) => verify::run(args).await,
        Command::Crd { kind } => match definitions(kind.as_deref()) {
            Ok(yaml) => {
                show(&yaml);
                ExitCode::SUCCESS
            }
            Err(error) => failed(error),
        },
        Command::Run(args) => match runtime::run(args).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(error),
        },
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), PROGRAM, &mut std::io::stdout());
            ExitCode::SUCCESS
        }
    }
}

/// The definitions as one YAML stream.
fn definitions(kind: Option<&str>) -> Result<String, Box<dyn std::error::Error>> {
    let mut texts = Vec::new();
    for definition in [KafkaExternalAccess::crd(), KafkaExternalAccessClass::crd()] {
        if kind.is_none_or(|kind| kind == definition.spec.names.kind) {
            texts.push(serde_saphyr::to_string(&definition)?);
        }
    }
    match texts.as_slice() {
        [] => Err("there is no such kind".into()),
        texts => Ok(texts.join("---\n")),
    }
}

/// What kubectl's own completion asks a plugin: the words so far, the last one unfinished. It wants one candidate a line,
/// and in the end a directive: 4, no names of files.
fn complete(words: Vec<OsString>) -> ExitCode {
    let last = words.len().saturating_sub(1);
    match clap_complete::engine::complete(&mut Arguments::command(), words, last, None) {
        Ok(candidates) => {
            for candidate in candidates {
                println!("{}", candidate.get_value().to_string_lossy());
            }
            println!(":4");
            ExitCode::SUCCESS
        }
        Err(error) => failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = "<!-- help: begin -->\n";

    /// `docs/cli.md` ends with the help of every command; `UPDATE=1` rewrites it.
    #[test]
    fn the_help_in_the_documents_is_that_of_the_program() {
        let mut help = String::new();
        let quiet = |command: clap::Command| command.mut_args(|argument| argument.hide_env_values(true));
        let mut program = Arguments::command().term_width(110).mut_subcommands(quiet);
        program.build();
        // Those of the operator itself are no person's.
        let shown =
            |command: &&mut clap::Command| !["help", "run", "crd", "verify"].contains(&command.get_name());
        for command in program.get_subcommands_mut().filter(shown) {
            let text = command.render_help().to_string();
            let text: Vec<&str> = text.lines().map(str::trim_end).collect();
            help.push_str(&format!("\n### {}\n\n```\n{}\n```\n", command.get_name(), text.join("\n")));
        }
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md");
        let document = std::fs::read_to_string(file).expect("docs/cli.md");
        let (written, there) = document.split_once(BEGIN).expect("a place for the help");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(file, format!("{written}{BEGIN}{help}")).expect("docs/cli.md can be written");
        } else {
            assert!(there == help, "docs/cli.md is not current; run: make generate");
        }
    }

    #[test]
    fn every_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_of_a_person_says_its_exit_codes() {
        let mut program = Arguments::command();
        for command in program.get_subcommands_mut() {
            let name = command.get_name().to_owned();
            let silent = ["crd", "run", "completion", "help", "verify"].contains(&name.as_str());
            assert!(silent || command.render_help().to_string().contains("Exit codes:"), "{name}");
        }
    }
}
