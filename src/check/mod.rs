//! `check`: does it work, would it work, and if not, what to do. Findings in categories, each with its remedy.
//!
//! | given | looks | needs |
//! |---|---|---|
//! | `--bootstrap` | at every broker from here, as a client would | nothing of Kubernetes; with `--report` to patch one ConfigMap |
//! | a name, or `-f` | at what the operator would see for the object, and at the topics behind it | to read what the operator reads, and a way to the pods |
//! | `--pre` | at the cluster before the operator is installed | to ask what this account may do |

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        Output,
        cluster::{ClusterArgs, OperatorArgs},
        connect::{ConnectArgs, seconds},
        failed, show,
    },
    domain::{AccessKey, Endpoint},
    preview::{Subject, Told, look},
    runtime::reach::ReachArgs,
};

mod before;
mod cloud;
pub mod findings;
pub mod inside;
pub mod network;
mod vantage;

use findings::{Category, passed, render};

/// Checks a Kafka from where this runs, an object, or a cluster before the installation.
#[derive(Args, Clone, Debug)]
#[command(
    group(clap::ArgGroup::new("what").required(true).multiple(true).args(["name", "filename", "bootstrap", "pre"])),
    after_help = "Exit codes: 0 nothing failed (warnings do not count), 1 something did, 2 wrong usage, or it cannot be looked at"
)]
pub struct CheckArgs {
    /// Name of an object that exists
    #[arg(conflicts_with_all = ["filename", "bootstrap"])]
    pub name: Option<String>,
    /// File with one object, which need not exist
    #[arg(short, long, conflicts_with = "bootstrap")]
    pub filename: Option<PathBuf>,
    /// Look at the cluster before the operator is installed; with -f at what the object needs as well
    #[arg(long, conflicts_with_all = ["name", "bootstrap"])]
    pub pre: bool,
    /// host:port list, as a client is given it
    #[arg(long, value_delimiter = ',')]
    pub bootstrap: Vec<Endpoint>,
    /// Which cluster
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Which addresses of clouds may be called
    #[command(flatten)]
    pub reach: ReachArgs,
    /// What the operator was told
    #[command(flatten)]
    pub operator: OperatorArgs,
    /// How this machine talks to the brokers, with --bootstrap
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// text, json or yaml
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
    /// Hand what is seen to the operator: namespace/name of the KafkaExternalAccess. Needs a kubeconfig that may patch
    /// ConfigMap NAME-seen-from-outside
    #[arg(long, requires = "bootstrap")]
    pub report: Option<AccessKey>,
    /// Check again and again with this pause, for example 60s; until the program is ended
    #[arg(long, value_parser = seconds, requires = "bootstrap")]
    pub every: Option<Duration>,
}

/// Runs the check.
pub async fn run(args: CheckArgs) -> ExitCode {
    if !args.bootstrap.is_empty() {
        return vantage::run(args).await;
    }
    let categories = match looked(&args).await {
        Ok(categories) => categories,
        Err(error) => {
            failed(error);
            return ExitCode::from(2);
        }
    };
    let good = passed(&categories);
    let value = json!({"ok": good, "categories": categories});
    match args.output.of(&value, || render(&categories)) {
        Ok(text) => show(&text),
        Err(error) => return failed(error),
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn looked(args: &CheckArgs) -> Result<Vec<Category>, String> {
    let cluster = args.cluster.open().await?;
    let mut categories = Vec::new();
    if args.pre {
        categories.extend(before::categories(&cluster).await);
    }
    let subject = Subject { name: args.name.as_deref(), filename: args.filename.as_deref() };
    if args.name.is_some() || args.filename.is_some() {
        let operator = args.operator.clone();
        let told = Told {
            reach: args.reach.reach(),
            operator_namespace: operator.operator_namespace,
            cluster_id: operator.cluster_id,
            prices: None,
        };
        let looked = match look(&cluster, &subject, told, true).await {
            Ok(looked) => looked,
            Err(error) if args.pre => {
                let mut object = Category::new("the object");
                object.bad(error.to_string(), "Correct it, then look again.");
                categories.push(object);
                return Ok(categories);
            }
            Err(error) => return Err(error.to_string()),
        };
        let cloud::Answers { quota, routed } = cloud::ask(&looked).await;
        categories.extend(inside::categories(&inside::Looked {
            desired: &looked.desired,
            observed: &looked.observed,
            plan: &looked.decided,
            quota,
            routed,
        }));
    }
    Ok(categories)
}
