//! The command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kafka_external_access::{api::KafkaExternalAccess, check, hosts, preview, runtime, verify};
use kube::CustomResourceExt;

/// Gives every Kafka broker a floating IP for life.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator
    Run(runtime::RunArgs),
    /// Print the CustomResourceDefinition
    Crd,
    /// Show what the operator would do, and do nothing
    Plan(preview::PlanArgs),
    /// Check every broker of a Kafka from where this runs; needs no right in Kubernetes
    Check(check::CheckArgs),
    /// Keep the brokers' names in /etc/hosts right
    Hosts(hosts::HostsArgs),
    /// Prove that the operator of this cluster works; no Kafka and no cloud are needed
    Verify(verify::VerifyArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    // One TLS provider for kube and reqwest; a second installation would be refused, and is not made.
    let _ = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default();
    match Arguments::parse().command {
        Command::Run(args) => match runtime::run(args).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        },
        Command::Crd => match serde_saphyr::to_string(&KafkaExternalAccess::crd()) {
            Ok(yaml) => {
                print!("{yaml}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        },
        Command::Plan(args) => preview::run(args).await,
        Command::Check(args) => check::run(args).await,
        Command::Hosts(args) => hosts::run(args).await,
        Command::Verify(args) => verify::run(args).await,
    }
}
