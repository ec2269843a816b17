//! `kafka-external-access plan`: what the operator would do, decided by the same code and carried out by nobody.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Args;

use crate::{
    api::{Cost, KafkaExternalAccess},
    cli::{
        cluster::{Cluster, ClusterArgs, OperatorArgs},
        show,
    },
    cloud::{
        Clouds,
        openstack::{CallObserver, CallOutcome, OpenStackClouds},
    },
    domain::{AccessKey, ClusterId},
    kafka::admin::TcpBrokers,
    kubernetes::{Kubernetes, KubernetesError, api::KubeApi},
    observe::{Freshness, Observer, Settings},
    plan::{
        Plan, Verdict,
        cost::{self, Prices},
        desired::{Desired, desired},
        memory::Memory,
        observed::Observed,
        plan,
    },
    reach::Reach,
    runtime::{clock::SystemClock, prices::PriceArgs, reach::ReachArgs},
    seams::Clock,
};

/// Shows what would be done for an object, from what Kubernetes, the cloud and the brokers show now. Needs the rights to
/// read what the operator reads; writes nothing.
#[derive(Args, Clone, Debug)]
#[command(
    group(clap::ArgGroup::new("object").required(true)),
    after_help = "Exit codes: 0 nothing is outstanding, 1 it cannot be told, 2 something is outstanding"
)]
pub struct PlanArgs {
    /// Name of an object that exists
    #[arg(group = "object")]
    pub name: Option<String>,
    /// File with one object, which need not exist: what would `kubectl apply` lead to
    #[arg(short, long, group = "object")]
    pub filename: Option<PathBuf>,
    /// Which cluster; the namespace where the file does not name it
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// What the operator was told
    #[command(flatten)]
    pub operator: OperatorArgs,
    /// What the cloud charges
    #[command(flatten)]
    pub prices: PriceArgs,
    /// Where clouds are called
    #[command(flatten)]
    pub reach: ReachArgs,
}

/// Why nothing can be shown.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The kubeconfig leads nowhere.
    #[error("{0}")]
    Cluster(String),
    /// The API server does not do as asked.
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
    /// The file cannot be used.
    #[error("{path}: {reason}")]
    File {
        /// Its name.
        path: String,
        /// Why.
        reason: String,
    },
    /// Nothing of that name.
    #[error("there is no KafkaExternalAccess {0}")]
    NoObject(AccessKey),
    /// The spec cannot be served.
    #[error("{reason}: {message}")]
    Refused {
        /// From the list.
        reason: String,
        /// In a sentence.
        message: String,
    },
}

/// Runs the command. Exit code 0: nothing is outstanding; 2: something is; 1: it cannot be told.
pub async fn run(args: PlanArgs) -> ExitCode {
    match shown(&args).await {
        Ok((text, outstanding)) => {
            show(&text);
            if outstanding { ExitCode::from(2) } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The object that is looked at.
pub struct Subject<'a> {
    /// One that exists.
    pub name: Option<&'a str>,
    /// One that need not exist; read before the name.
    pub filename: Option<&'a Path>,
}

/// What the operator is told at its start, as far as it decides what it would do.
#[derive(Default)]
pub struct Told {
    /// Identity of the cluster in owner markers.
    pub cluster_id: Option<String>,
    /// What the cloud charges.
    pub prices: Option<Prices>,
    /// Which addresses of clouds may be called.
    pub reach: Reach,
    /// Namespace of the operator, which the Secrets of classes are in.
    pub operator_namespace: String,
}

/// What the operator would see, and what it would do.
pub struct Look {
    /// What is wanted.
    pub desired: Desired,
    /// What there is.
    pub observed: Observed,
    /// What would be done.
    pub decided: Plan,
    /// The API server that was asked.
    pub kubernetes: Arc<dyn Kubernetes>,
    /// The clouds that were asked, with the logins that were made.
    pub clouds: Arc<dyn Clouds>,
}

/// Looks as the operator does, and at the cluster's topics where asked to.
pub async fn look(
    cluster: &Cluster,
    subject: &Subject<'_>,
    told: Told,
    topics: bool,
) -> Result<Look, PlanError> {
    let own = KubeApi::new(cluster.client.clone(), vec![cluster.namespace.clone()]);
    let object = object(subject, &own, &cluster.namespace).await?;
    let namespace = object.metadata.namespace.as_deref().unwrap_or(&cluster.namespace);
    let kubernetes: Arc<dyn Kubernetes> = Arc::new(cluster.for_a_look(namespace).await);
    let id = match &told.cluster_id {
        Some(id) => ClusterId::new(id),
        None => ClusterId::new(kubernetes.cluster_uid().await?.as_str()),
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let clouds: Arc<dyn Clouds> =
        Arc::new(OpenStackClouds::new(clock.clone(), Arc::new(Uncounted)).reaching(told.reach));
    let (brokers, vantage) = (Arc::new(TcpBrokers), "this machine".to_owned());
    let settings =
        Settings { prices: told.prices, operator_namespace: told.operator_namespace, ..Settings::default() };
    let observer =
        Observer::new(kubernetes.clone(), clouds.clone(), brokers, clock.clone(), id, vantage, settings);
    let desired = desired(&object, &observer.classes(&object).await?).map_err(|problem| {
        PlanError::Refused { reason: problem.reason.to_string(), message: problem.message }
    })?;
    let (mut observed, _) = observer.observe(&object, &desired, Freshness::Now).await?;
    let mut memory = Memory::new(clock.steady());
    memory.see(&desired, &observed, clock.steady());
    let mut decided = plan(&desired, &observed, &memory, clock.steady());
    let client = object.spec.kafka.client.as_ref();
    if decided.ask_kafka || topics {
        observer.ask_kafka(client, &desired, &mut observed, &decided).await?;
        decided = plan(&desired, &observed, &memory, clock.steady());
    }
    if decided.ask_cluster || topics {
        observer.ask_cluster(client, &desired, &mut observed).await?;
        decided = plan(&desired, &observed, &memory, clock.steady());
    }
    Ok(Look { desired, observed, decided, kubernetes, clouds })
}

async fn shown(args: &PlanArgs) -> Result<(String, bool), PlanError> {
    let cluster = args.cluster.open().await.map_err(PlanError::Cluster)?;
    let subject = Subject { name: args.name.as_deref(), filename: args.filename.as_deref() };
    let told = Told {
        cluster_id: args.operator.cluster_id.clone(),
        prices: args.prices.prices(),
        reach: args.reach.reach(),
        operator_namespace: args.operator.operator_namespace.clone(),
    };
    let Look { desired, observed, decided, .. } = look(&cluster, &subject, told, false).await?;
    let mut text = in_words(&desired, &decided);
    if let Some(prices) = &observed.prices {
        text.push_str(&costs(prices, &desired, &observed));
    }
    Ok((text, !decided.outstanding.is_empty()))
}

/// The object as it would be: from the API server, or the file's spec on what the API server has of that name.
async fn object(
    subject: &Subject<'_>,
    kubernetes: &dyn Kubernetes,
    namespace: &str,
) -> Result<KafkaExternalAccess, PlanError> {
    let Some(path) = subject.filename else {
        let name = subject.name.unwrap_or_default().to_owned();
        let key = AccessKey { namespace: namespace.to_owned(), name };
        return kubernetes.access(&key).await?.ok_or(PlanError::NoObject(key));
    };
    let wrong = |reason: String| PlanError::File { path: path.display().to_string(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let mut wanted: KafkaExternalAccess =
        serde_saphyr::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let name = wanted.metadata.name.clone().ok_or_else(|| wrong("metadata.name is missing".to_owned()))?;
    let namespace = wanted.metadata.namespace.clone().unwrap_or_else(|| namespace.to_owned());
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
