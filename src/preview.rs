//! `kafka-external-access plan`: what the operator would do, decided by the same code and carried out by nobody.

use std::{fmt::Write, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::Args;

use crate::{
    api::{Cost, KafkaExternalAccess},
    cloud::openstack::{CallObserver, CallOutcome, OpenStackClouds},
    domain::{AccessKey, ClusterId},
    kafka::admin::TcpBrokers,
    kubernetes::{
        Kubernetes, KubernetesError,
        api::{KubeApi, client},
    },
    observe::{Freshness, Observer, Settings},
    plan::{
        Plan, Verdict,
        cost::{self, Prices},
        desired::{Desired, desired},
        memory::Memory,
        observed::Observed,
        plan,
    },
    runtime::{clock::SystemClock, prices::PriceArgs, reach::ReachArgs},
    seams::Clock,
};

/// Shows what would be done for an object, from what Kubernetes, the cloud and the brokers show now. Needs the rights to
/// read what the operator reads; writes nothing.
#[derive(Args, Clone, Debug)]
#[command(group(clap::ArgGroup::new("object").required(true)))]
pub struct PlanArgs {
    /// Name of an object that exists
    #[arg(group = "object")]
    pub name: Option<String>,
    /// File with one object, which need not exist: what would `kubectl apply` lead to
    #[arg(short, long, group = "object")]
    pub filename: Option<PathBuf>,
    /// Namespace of the object, where the file does not name it
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Identity of this cluster in owner markers. Default: the UID of namespace kube-system
    #[arg(long, env = "KEA_CLUSTER_ID")]
    pub cluster_id: Option<String>,
    /// What the cloud charges
    #[command(flatten)]
    pub prices: PriceArgs,
    /// Where clouds are called
    #[command(flatten)]
    pub reach: ReachArgs,
}

/// Why nothing can be shown.
#[derive(Debug, thiserror::Error)]
enum PlanError {
    #[error("no way to the API server: {0}")]
    Config(#[from] kube::config::InferConfigError),
    #[error("no way to the API server: {0}")]
    Client(#[from] kube::Error),
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
    #[error("{path}: {reason}")]
    File { path: String, reason: String },
    #[error("there is no KafkaExternalAccess {0}")]
    NoObject(AccessKey),
    #[error("{reason}: {message}")]
    Refused { reason: String, message: String },
}

/// Runs the command. Exit code 0: nothing is outstanding; 2: something is; 1: it cannot be told.
pub async fn run(args: PlanArgs) -> ExitCode {
    match shown(&args).await {
        Ok((text, outstanding)) => {
            print!("{text}");
            if outstanding { ExitCode::from(2) } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn shown(args: &PlanArgs) -> Result<(String, bool), PlanError> {
    let config = kube::Config::infer().await?;
    let default_namespace = config.default_namespace.clone();
    let kubernetes: Arc<dyn Kubernetes> = Arc::new(KubeApi::new(client(config)?, Vec::new()));
    let object = object(args, &*kubernetes, default_namespace).await?;
    let desired = desired(&object).map_err(|problem| PlanError::Refused {
        reason: problem.reason.to_string(),
        message: problem.message,
    })?;
    let cluster = match &args.cluster_id {
        Some(id) => ClusterId::new(id),
        None => ClusterId::new(kubernetes.cluster_uid().await?.as_str()),
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let clouds =
        Arc::new(OpenStackClouds::new(clock.clone(), Arc::new(Uncounted)).reaching(args.reach.reach()));
    let (brokers, vantage) = (Arc::new(TcpBrokers), "this machine".to_owned());
    let settings = Settings { prices: args.prices.prices(), ..Settings::default() };
    let observer = Observer::new(kubernetes, clouds, brokers, clock.clone(), cluster, vantage, settings);
    let (mut observed, _) = observer.observe(&object, &desired, Freshness::Now).await?;
    let mut memory = Memory::new(clock.steady());
    memory.see(&desired, &observed, clock.steady());
    let mut decided = plan(&desired, &observed, &memory, clock.steady());
    if decided.ask_kafka {
        let client = object.spec.kafka.client.as_ref();
        observer.ask_kafka(client, &desired, &mut observed, &decided).await?;
        decided = plan(&desired, &observed, &memory, clock.steady());
        if decided.ask_cluster {
            observer.ask_cluster(client, &desired, &mut observed).await?;
            decided = plan(&desired, &observed, &memory, clock.steady());
        }
    }
    let mut text = in_words(&desired, &decided);
    if let Some(prices) = &observed.prices {
        text.push_str(&costs(prices, &desired, &observed));
    }
    Ok((text, !decided.outstanding.is_empty()))
}

/// The object as it would be: from the API server, or the file's spec on what the API server has of that name.
async fn object(
    args: &PlanArgs,
    kubernetes: &dyn Kubernetes,
    default_namespace: String,
) -> Result<KafkaExternalAccess, PlanError> {
    let namespace = args.namespace.clone();
    let Some(path) = &args.filename else {
        let name = args.name.clone().unwrap_or_default();
        let key = AccessKey { namespace: namespace.unwrap_or(default_namespace), name };
        return kubernetes.access(&key).await?.ok_or(PlanError::NoObject(key));
    };
    let wrong = |reason: String| PlanError::File { path: path.display().to_string(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let mut wanted: KafkaExternalAccess =
        serde_saphyr::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let name = wanted.metadata.name.clone().ok_or_else(|| wrong("metadata.name is missing".to_owned()))?;
    let namespace = wanted.metadata.namespace.clone().or(namespace).unwrap_or(default_namespace);
    match kubernetes.access(&AccessKey { namespace: namespace.clone(), name }).await? {
        Some(existing) => Ok(KafkaExternalAccess { spec: wanted.spec, ..existing }),
        None => {
            wanted.metadata.namespace = Some(namespace);
            wanted.metadata.uid = Some("not-created-yet".to_owned());
            Ok(wanted)
        }
    }
}

fn costs(prices: &Prices, desired: &Desired, observed: &Observed) -> String {
    let now = cost::now(prices, &observed.own.status.brokers);
    let after = cost::afterwards(prices, desired, observed);
    let Cost { currency, per_month, addresses, bandwidth, traffic } = after;
    format!(
        "costs {per_month} {currency} a month (addresses {addresses}, limits {bandwidth}, traffic as now {traffic}); now {}\n",
        now.per_month
    )
}

fn in_words(desired: &Desired, decided: &Plan) -> String {
    let restarts = match decided.restarts {
        0 => "no broker is restarted".to_owned(),
        1 => "1 broker is restarted".to_owned(),
        brokers => format!("{brokers} brokers are restarted, one after the other"),
    };
    let mut text = match decided.outstanding.len() {
        0 => format!("{}: nothing is outstanding\n", desired.key),
        1 => format!("{}: 1 step is outstanding; {restarts}\n", desired.key),
        steps => format!("{}: {steps} steps are outstanding; {restarts}\n", desired.key),
    };
    // Writing to a String cannot fail.
    for (number, step) in decided.outstanding.iter().enumerate() {
        let _ = writeln!(text, "{:4}. {step}", number + 1);
    }
    for problem in decided.problems.iter().chain(&decided.warnings) {
        let _ = writeln!(text, "  {}: {}", problem.reason, problem.message);
    }
    for (ordinal, verdict) in &decided.brokers {
        let address = decided.addresses.get(ordinal).map(|held| held.address.to_string());
        let stands = match verdict {
            Verdict::Settled => "ready".to_owned(),
            Verdict::Idle => "idle: the address is kept".to_owned(),
            Verdict::Waiting(problem) | Verdict::Refused(problem) | Verdict::Releasing(Some(problem)) => {
                format!("{}: {}", problem.reason, problem.message)
            }
            Verdict::Releasing(None) => "releasing".to_owned(),
        };
        let pod = format!("{}-{ordinal}", desired.stateful_set);
        let _ = writeln!(text, "  {pod}  {}  {stands}", address.as_deref().unwrap_or("no address yet"));
    }
    text
}

/// Calls of one command are nobody's metric.
struct Uncounted;

impl CallObserver for Uncounted {
    fn called(&self, _: &'static str, _: CallOutcome, _: Duration) {}
}
