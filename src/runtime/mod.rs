//! The machine under the product: clocks, leadership, logs, HTTP, and the process itself.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    act::Actor,
    cloud::openstack::OpenStackClouds,
    controller::{self, queue::WorkQueue, reconcile::Reconciler, watches::Watches},
    domain::{AccessKey, ClusterId, ErrorClass},
    kafka::admin::TcpBrokers,
    kubernetes::{
        Kubernetes, KubernetesError, KubernetesFault,
        api::{KubeApi, client},
    },
    observe::{Observer, Settings},
    plan::desired,
    report::metrics::Metrics,
    seams::{Clock, Random},
};

pub mod clock;
mod election;
pub mod hosts;
pub mod http;
pub mod lease;
pub mod prices;
pub mod reach;
pub mod telemetry;
#[cfg(feature = "otlp")]
pub mod traces;

use clock::{SystemClock, SystemRandom};
use hosts::HostsEndpointArgs;
use lease::LeaseHolder;
use prices::PriceArgs;
use reach::ReachArgs;
use telemetry::LogFormat;

/// Reconciles at the same time; each object by one of them.
const WORKERS: usize = 8;
/// How long a change that is under way may take to end after SIGTERM. Kubernetes kills after 30 s unless told otherwise
/// (`terminationGracePeriodSeconds`); giving the lease back comes after this.
const SHUTDOWN: Duration = Duration::from_secs(20);
/// Between tries to reach the API server at the start.
const START: Duration = Duration::from_secs(2);
/// How long a right that is missing at the start is waited for.
const REFUSED: Duration = Duration::from_secs(30);

/// Runs the operator.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Serve only this namespace; repeatable. Default: the whole cluster
    #[arg(long = "namespace", env = "KEA_NAMESPACES", value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// Identity of this cluster in owner markers. Default: the UID of namespace kube-system
    #[arg(long, env = "KEA_CLUSTER_ID")]
    pub cluster_id: Option<String>,
    /// Namespace of the leader lease
    #[arg(long, env = "KEA_LEASE_NAMESPACE", default_value = "default")]
    pub lease_namespace: String,
    /// Namespace of the operator, which the Secrets of classes are in. Default: that of the lease
    #[arg(long, env = "KEA_OPERATOR_NAMESPACE")]
    pub operator_namespace: Option<String>,
    /// Name of the leader lease
    #[arg(long, env = "KEA_LEASE_NAME", default_value = "kafka-external-access")]
    pub lease_name: String,
    /// How long the lease of a replica that died keeps the others from taking over, for example `15s`
    #[arg(long, env = "KEA_LEASE_DURATION", default_value = "15s", value_parser = interval)]
    pub lease_duration: Duration,
    /// Address of /healthz, /readyz, /metrics, and /log-level for peers on the loopback interface
    #[arg(long, env = "KEA_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// How often the cloud is looked at although nothing is known to have happened, for example `5m`
    #[arg(long, env = "KEA_DRIFT_INTERVAL", default_value = "5m", value_parser = interval)]
    pub drift_interval: Duration,
    /// How often the brokers' byte counters are read, for example `60s`
    #[arg(long, env = "KEA_METRICS_INTERVAL", default_value = "60s", value_parser = interval)]
    pub metrics_interval: Duration,
    /// What the cloud charges
    #[command(flatten)]
    pub prices: PriceArgs,
    /// Where clouds are called
    #[command(flatten)]
    pub reach: ReachArgs,
    /// Where machines are told the brokers' names
    #[command(flatten)]
    pub hosts: HostsEndpointArgs,
    /// How log lines look
    #[arg(long, env = "KEA_LOG_FORMAT", value_enum, default_value = "json")]
    pub log_format: LogFormat,
    /// The node this replica runs on, named as the place probes are seen from
    #[arg(long, env = "NODE_NAME")]
    pub node_name: Option<String>,
}

impl RunArgs {
    fn operator_namespace(&self) -> &str {
        self.operator_namespace.as_ref().unwrap_or(&self.lease_namespace)
    }
}

/// A duration of the command line.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    desired::interval(text).ok_or_else(|| format!("\"{text}\" is not a duration such as 30s or 5m"))
}

/// Why the operator could not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No usable kubeconfig or service account.
    #[error("no way to the API server: {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// The client cannot be built.
    #[error("no way to the API server: {0}")]
    Client(#[from] kube::Error),
    /// The first read failed.
    #[error("the cluster's identity cannot be read: {0}. Without that right it is given by --cluster-id")]
    Identity(#[from] KubernetesError),
    /// A signal handler cannot be installed.
    #[error("signals cannot be handled: {0}")]
    Signal(#[from] std::io::Error),
}

/// Runs until SIGTERM or SIGINT, then ends in order: no new keys, changes under way end, the lease is given back.
pub async fn run(args: RunArgs) -> Result<(), RunError> {
    let (log_level, traces) = telemetry::start(args.log_format);
    // First of all: a process without a handler is killed, or, as the first of a container, goes on.
    let mut end = End::listen()?;
    let client = client(kube::Config::infer().await?)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let random: Arc<dyn Random> = Arc::new(SystemRandom);
    let kubernetes: Arc<dyn Kubernetes> = Arc::new(KubeApi::new(client.clone(), args.namespaces.clone()));
    let metrics = Arc::new(Metrics::default());
    let instance = instance(&*random);
    let lease = LeaseHolder::new(
        kubernetes.clone(),
        clock.clone(),
        &args.lease_namespace,
        &args.lease_name,
        &instance,
        args.lease_duration,
    );
    let lease = Arc::new(lease);
    let queue: Arc<WorkQueue<AccessKey>> = Arc::new(WorkQueue::new(clock.clone(), random.clone()));
    let watches = Watches::new(
        client.clone(),
        args.namespaces.clone(),
        args.operator_namespace(),
        queue.clone(),
        clock.clone(),
    );
    watches.start();
    hosts::start(&args.hosts, kubernetes.clone(), clock.clone());
    let shown = http::Pages { watches, metrics: metrics.clone(), lease: lease.clone(), log_level };
    tokio::spawn(pages(args.listen, shown));
    let cluster = tokio::select! {
        cluster = cluster(&args, &*kubernetes, &*clock) => cluster?,
        () = end.asked() => return Ok(()),
    };
    // Who cannot act yet does not lead.
    tokio::spawn(election::take_part(lease.clone(), clock.clone(), client));
    tracing::info!(%instance, %cluster, version = env!("CARGO_PKG_VERSION"), "started");
    let reconciler = reconciler(&args, kubernetes, &clock, &random, &metrics, &lease, cluster, instance);
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let work = controller::work(
                queue.clone(),
                reconciler.clone(),
                lease.clone(),
                clock.clone(),
                metrics.clone(),
            );
            tokio::spawn(work)
        })
        .collect();
    end.asked().await;
    tracing::info!("ending");
    queue.close();
    lease.end();
    let ended = futures::future::join_all(workers);
    tokio::select! { _ = ended => {} () = clock.sleep(SHUTDOWN) => tracing::warn!("a change did not end in time") }
    if let Err(error) = lease.release().await {
        tracing::warn!(%error, "the lease was not given back");
    }
    if let Some(traces) = traces {
        traces.end().await;
    }
    Ok(())
}

/// Identity of this cluster in owner markers. Waits for an API server that cannot be reached: who exits instead is
/// started again later and later. An error: the right to read it is missing, and was not only missing because the API
/// server has just started and has not read its roles yet.
async fn cluster(
    args: &RunArgs,
    kubernetes: &dyn Kubernetes,
    clock: &dyn Clock,
) -> Result<ClusterId, KubernetesError> {
    if let Some(id) = &args.cluster_id {
        return Ok(ClusterId::new(id));
    }
    let refused_until = clock.monotonic() + REFUSED;
    loop {
        match kubernetes.cluster_uid().await {
            Ok(uid) => return Ok(ClusterId::new(uid.as_str())),
            Err(error)
                if error.class() == ErrorClass::Transient
                    || matches!(error.fault, KubernetesFault::Forbidden(_))
                        && clock.monotonic() < refused_until =>
            {
                tracing::warn!(%error, "waiting for the API server");
                clock.sleep(START).await;
            }
            Err(error) => return Err(error),
        }
    }
}

#[allow(
    clippy::too_many_arguments,
    reason = "the parts of the process, named once, where they are put together"
)]
fn reconciler(
    args: &RunArgs,
    kubernetes: Arc<dyn Kubernetes>,
    clock: &Arc<dyn Clock>,
    random: &Arc<dyn Random>,
    metrics: &Arc<Metrics>,
    lease: &Arc<LeaseHolder>,
    cluster: ClusterId,
    instance: String,
) -> Arc<Reconciler> {
    let clouds = Arc::new(OpenStackClouds::new(clock.clone(), metrics.clone()).reaching(args.reach.reach()));
    let brokers = Arc::new(TcpBrokers);
    let vantage = format!("operator at {}", args.node_name.as_deref().unwrap_or(&instance));
    let observer = Arc::new(Observer::new(
        kubernetes.clone(),
        clouds.clone(),
        brokers.clone(),
        clock.clone(),
        cluster,
        vantage,
        Settings {
            drift: args.drift_interval,
            metrics: args.metrics_interval,
            prices: args.prices.prices(),
            operator_namespace: args.operator_namespace().to_owned(),
        },
    ));
    let actor = Actor {
        kubernetes: kubernetes.clone(),
        clouds,
        brokers,
        clock: clock.clone(),
        leadership: lease.clone(),
        observer: observer.clone(),
        endings: tokio::sync::Mutex::default(),
    };
    Arc::new(Reconciler {
        observer,
        actor,
        kubernetes,
        leadership: lease.clone(),
        clock: clock.clone(),
        random: random.clone(),
        instance,
        memories: Mutex::default(),
        told: Mutex::default(),
        objects: metrics.objects.clone(),
        serial: AtomicU64::new(0),
    })
}

async fn pages(at: SocketAddr, pages: http::Pages) {
    if let Err(error) = http::serve(at, pages).await {
        tracing::error!(%at, %error, "health and metrics are not served");
    }
}

/// Host name and a random part: a restarted process is another candidate.
fn instance(random: &dyn Random) -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "operator".to_owned());
    format!("{host}-{:06x}", (random.fraction() * 16_777_216.0) as u32)
}

/// The signals that ask a process to end.
struct End {
    terminate: Signal,
    interrupt: Signal,
}

impl End {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn asked(&mut self) {
        tokio::select! { _ = self.terminate.recv() => {} _ = self.interrupt.recv() => {} }
    }
}
