//! `kafka-external-access hosts`: names of brokers on a machine that reaches them but cannot look them up.
//!
//! | a pair of `status.hosts` | a broker answers there | in the file now | then |
//! |---|---|---|---|
//! | yes | it is the one | | in the file |
//! | yes | another one | | not in the file: a client would be told "not leader", not that it cannot connect |
//! | yes | nobody, or it cannot be asked | yes | stays: a broker that restarts keeps its name |
//! | yes | nobody, or it cannot be asked | no | not in the file yet |
//! | no (any more) | | yes | goes |
//!
//! With `--trust-status` the operator's own look is enough: every pair of the status is in the file.
//! While whoever is asked does not answer, or the object does not exist, the file stays as it is.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use futures::future::join_all;
use jiff::Timestamp;
use kube::Api;

use crate::{
    cli::{
        cluster::ClusterArgs,
        connect::{ConnectArgs, Dialer, seconds},
    },
    domain::{AccessKey, NodeId},
    kafka::{Brokers, admin::TcpBrokers},
    runtime::clock::SystemClock,
    seams::Clock,
};

pub mod block;
pub mod endpoint;
pub mod file;
pub mod source;
pub mod told;

use block::{BrokenBlock, Pair};
use endpoint::EndpointArgs;
use file::FileError;
use source::{Source, SourceError};
use told::{Broker, Told};

/// From what age on it is said that the operator tells what it knew before, in seconds.
const OLD: u64 = 60;

/// Keeps a marked block of /etc/hosts right, from the object's `status.hosts`. Every other byte, mode and owner stay. Needs
/// a kubeconfig that may `get` the object and nothing else, or a token for the operator's endpoint.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Exit codes: 0 the block is right, 1 it is not, or that cannot be told, 2 wrong usage, or a file it is given cannot be used"
)]
pub struct HostsArgs {
    /// namespace/name of the KafkaExternalAccess
    #[arg(env = "KEA_HOSTS_OBJECT")]
    pub object: AccessKey,
    /// The file
    #[arg(long, env = "KEA_HOSTS_FILE", default_value = "/etc/hosts")]
    pub file: PathBuf,
    /// Time between two readings of the object
    #[arg(long, env = "KEA_HOSTS_INTERVAL", default_value = "10s", value_parser = seconds)]
    pub interval: Duration,
    /// Set the file right once, and end
    #[arg(long, group = "mode")]
    pub once: bool,
    /// Change nothing; say whether the file is right
    #[arg(long, group = "mode")]
    pub check: bool,
    /// Take the block out, and end; nobody is asked
    #[arg(long, group = "mode")]
    pub remove: bool,
    /// Do not ask the brokers from here who they are: what the operator saw is enough
    #[arg(long, env = "KEA_HOSTS_TRUST_STATUS")]
    pub trust_status: bool,
    /// Take only names under these domains, for example ydata.svc,ydata.svc.cluster.local. Default: any name with a dot
    #[arg(long, env = "KEA_HOSTS_NAMES_UNDER", value_delimiter = ',')]
    pub names_under: Vec<String>,
    /// Whom it asks
    #[command(flatten)]
    pub endpoint: EndpointArgs,
    /// How this machine talks to the brokers
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// Why the file may not be right.
#[derive(Debug, thiserror::Error)]
enum HostsError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    File(#[from] FileError<BrokenBlock>),
}

/// Runs the command.
pub async fn run(args: HostsArgs) -> ExitCode {
    if args.remove {
        return ended(args.remove().map(|()| true));
    }
    let keeper = match Keeper::new(args).await {
        Ok(keeper) => keeper,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    if keeper.args.check {
        return ended(keeper.check().await);
    }
    if keeper.args.once {
        return ended(keeper.refresh().await.map(|told| {
            told.iter().for_each(|line| println!("{line}"));
            true
        }));
    }
    keeper.keep().await
}

fn ended(result: Result<bool, HostsError>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

impl HostsArgs {
    fn admits(&self, pair: &Pair) -> bool {
        let under = |domain: &String| {
            let head = pair.name.strip_suffix(domain.trim_start_matches('.'));
            head.is_some_and(|head| head.ends_with('.'))
        };
        self.names_under.is_empty() || self.names_under.iter().any(under)
    }

    fn remove(&self) -> Result<(), HostsError> {
        let changed = file::change(&self.file, |text| block::without(text, &self.object).map(Some))?;
        let said = if changed { "removed" } else { "there was none" };
        println!("block of {} in {}: {said}", self.object, self.file.display());
        Ok(())
    }

    /// The block as it stands.
    fn now(&self) -> Result<Option<block::Block>, HostsError> {
        let machine = |error| FileError::Machine { path: self.file.clone(), error };
        let text = std::fs::read(&self.file).map_err(machine)?;
        let content = |error| FileError::Content { path: self.file.clone(), error };
        Ok(block::find(&text, &self.object).map_err(content)?)
    }
}

/// What a broker's own answer says about a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// It is the one.
    Right,
    /// Another one.
    Other(NodeId),
    /// Nobody, or it cannot be asked.
    None(String),
}

struct Keeper {
    args: HostsArgs,
    source: Source,
    dialer: Dialer,
    clock: SystemClock,
}

impl Keeper {
    async fn new(args: HostsArgs) -> Result<Self, String> {
        let dialer = args.connect.dialer()?;
        let source = match args.endpoint.endpoint() {
            Some(endpoint) => Source::Operator(endpoint),
            None => {
                let cluster = ClusterArgs::default().open().await?;
                Source::ApiServer(Api::namespaced(cluster.client, &args.object.namespace))
            }
        };
        Ok(Self { args, source, dialer, clock: SystemClock::default() })
    }

    /// Until the program is ended. One line for each thing that changes.
    async fn keep(&self) -> ExitCode {
        let written = self.args.now().ok().flatten().and_then(|block| block.changed);
        let (mut read, mut told) = (written, Vec::new());
        loop {
            let lines = match self.refresh().await {
                Ok(lines) => {
                    read = Some(self.clock.now());
                    lines
                }
                Err(error) => vec![format!("error: {error}; {}", self.stays(read))],
            };
            for line in lines.iter().filter(|line| !told.contains(*line)) {
                println!("{line}");
            }
            told = lines;
            self.clock.sleep(self.args.interval).await;
        }
    }

    fn stays(&self, read: Option<Timestamp>) -> String {
        match read {
            Some(read) => {
                let age = age(Duration::try_from(self.clock.now().duration_since(read)).unwrap_or_default());
                format!("the file stays as it is, with what was known {age} ago")
            }
            None => "the file stays as it is".to_owned(),
        }
    }

    /// Sets the file right; what is worth a line each.
    async fn refresh(&self) -> Result<Vec<String>, HostsError> {
        let names = self.source.read(&self.args.object, &self.clock).await?;
        let before = self.args.now()?.map(|block| block.pairs).unwrap_or_default();
        let (wanted, mut told) = self.wanted(&names, &before).await;
        let object = &self.args.object;
        let changed = file::change(&self.args.file, |text| {
            let there = block::find(text, object)?;
            let right = there.is_some_and(|block| block.pairs == wanted);
            if right { Ok(None) } else { block::with(text, object, &wanted, self.clock.now()).map(Some) }
        })?;
        if changed {
            let gone = before.iter().filter(|pair| !wanted.contains(pair)).map(|pair| format!("- {pair}"));
            let new = wanted.iter().filter(|pair| !before.contains(pair)).map(|pair| format!("+ {pair}"));
            told.extend(gone.chain(new));
        }
        let text = std::fs::read(&self.args.file).unwrap_or_default();
        told.extend(block::elsewhere(&text, object, &wanted).into_iter().map(|(name, line)| {
            format!(
                "{name} stands in line {line} of {} as well; remove it there: whichever comes first wins",
                self.args.file.display()
            )
        }));
        Ok(told)
    }

    async fn check(&self) -> Result<bool, HostsError> {
        let block = self.args.now()?;
        let before = block.as_ref().map(|block| block.pairs.clone()).unwrap_or_default();
        let names = match self.source.read(&self.args.object, &self.clock).await {
            Ok(names) => names,
            Err(error) => {
                println!("{}", self.stays(block.and_then(|block| block.changed)));
                return Err(error.into());
            }
        };
        let (wanted, told) = self.wanted(&names, &before).await;
        told.iter().for_each(|line| println!("{line}"));
        before.iter().filter(|pair| !wanted.contains(pair)).for_each(|pair| println!("not right: {pair}"));
        wanted.iter().filter(|pair| !before.contains(pair)).for_each(|pair| println!("missing: {pair}"));
        let right = block.is_some() && wanted == before;
        let said = if right { "right" } else { "not right" };
        println!("{} pairs of {} in {}: {said}", before.len(), self.args.object, self.args.file.display());
        Ok(right)
    }

    /// The pairs that belong into the file, and what to say about the others.
    async fn wanted(&self, names: &Told, before: &[Pair]) -> (Vec<Pair>, Vec<String>) {
        let mut told = Vec::new();
        if names.age_seconds >= OLD {
            let age = age(Duration::from_secs(names.age_seconds));
            told.push(format!(
                "{} does not reach the API server: it tells what it knew {age} ago",
                self.source.name()
            ));
        }
        let mut asked = Vec::new();
        for named in &names.pairs {
            match named.pair() {
                Ok(pair) if !self.args.admits(&pair) => {
                    told.push(format!("left out: {pair} is not under --names-under"))
                }
                Ok(pair) => asked.push(async move {
                    let answer = self.ask(&pair, named.broker).await;
                    (pair, answer)
                }),
                Err(error) => told.push(error.to_string()),
            }
        }
        let (pairs, reasons) = decide(join_all(asked).await, before);
        told.extend(reasons);
        (pairs, told)
    }

    async fn ask(&self, pair: &Pair, broker: Option<Broker>) -> Answer {
        if self.args.trust_status {
            return Answer::Right;
        }
        let Some(Broker { node_id, port }) = broker else {
            return Answer::None("the status does not say which broker it is".to_owned());
        };
        let target = self.dialer.target((pair.address, port).into(), &pair.name);
        match TcpBrokers.probe(&target).await.outcome {
            Ok(view) if view.node == node_id => Answer::Right,
            Ok(view) => Answer::Other(view.node),
            Err(error) => Answer::None(error.to_string()),
        }
    }
}

/// The table above.
fn decide(asked: Vec<(Pair, Answer)>, before: &[Pair]) -> (Vec<Pair>, Vec<String>) {
    let (mut pairs, mut told) = (Vec::new(), Vec::new());
    for (pair, answer) in asked {
        match answer {
            Answer::Right => pairs.push(pair),
            Answer::Other(node) => told.push(format!("left out: {pair}: broker {node} answers there")),
            Answer::None(_) if before.contains(&pair) => pairs.push(pair),
            Answer::None(why) => told.push(format!("not yet: {pair}: {why}")),
        }
    }
    (pairs, told)
}

/// The greatest unit: `35 s`, `3 min`, `5 h`, `2 d`.
pub fn age(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds @ 7200..=172_799 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(text: &str) -> Pair {
        text.parse().expect("a pair")
    }

    #[test]
    fn names_under_a_domain_are_those_with_more_labels_in_front() {
        let admits = |under: &str, name: &str| {
            let line = ["hosts", "n/kafka", "--names-under", under];
            let command = HostsArgs::augment_args(clap::Command::new("hosts"));
            let matches = command.try_get_matches_from(line).expect("accepted");
            let args = <HostsArgs as clap::FromArgMatches>::from_arg_matches(&matches).expect("arguments");
            args.admits(&pair(&format!("10.0.0.1 {name}")))
        };
        assert!(admits("n.svc,n.svc.cluster.local", "kafka-0.kafka.n.svc.cluster.local"));
        assert!(admits(".n.svc", "kafka-0.kafka.n.svc"));
        assert!(!admits("n.svc", "deb.debian.org") && !admits("n.svc", "kafka.other-n.svc"));
    }

    #[test]
    fn a_new_pair_comes_when_its_broker_answers_and_one_that_is_there_stays_until_another_answers() {
        let (known, new, other) = (pair("10.0.0.1 a.b"), pair("10.0.0.2 c.d"), pair("10.0.0.3 e.f"));
        let down = || Answer::None("Tcp: connection refused".to_owned());
        let before = [known.clone(), other.clone(), pair("10.0.0.9 gone.g")];
        let asked = vec![(known.clone(), down()), (new.clone(), down()), (other, Answer::Other(NodeId(2)))];
        let (pairs, told) = decide(asked, &before);
        assert_eq!(pairs, before[..1]);
        assert_eq!(
            told,
            [
                "not yet: 10.0.0.2 c.d: Tcp: connection refused",
                "left out: 10.0.0.3 e.f: broker 2 answers there"
            ]
        );
        let asked = vec![(known.clone(), Answer::Right), (new.clone(), Answer::Right)];
        assert_eq!(decide(asked, &before).0, [known, new]);
    }

    #[test]
    fn ages_have_the_greatest_unit() {
        let told = [35, 119, 120, 7199, 7200, 172_800].map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(told, ["35 s", "119 s", "2 min", "119 min", "2 h", "2 d"]);
    }
}
