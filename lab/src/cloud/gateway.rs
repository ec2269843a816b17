//! The router of the cloud: makes the network do what Neutron's records say, and reports what it did.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::PATIENCE;
use super::api::{Session, field};
use super::facts::CloudFacts;
use super::http::Http;
use super::picture::{Picture, Records, Target};
use super::rules::ruleset;
use super::shaping::{roots, shaping};
use crate::addresses::{EXTERNAL_BRIDGE, EXTERNAL_GATEWAY, EXTERNAL_SUBNET, POD_BRIDGE};
use crate::error::{Context, Result, write_file};
use crate::paths::Paths;
use crate::process::{Daemon, Part, Readiness, successful, text};
use crate::sandbox::Sandbox;

/// The hidden subcommand that runs [`run`], and the name of the part.
pub const SUBCOMMAND: &str = "gateway";
/// How often the notice of a change is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// The shortest time between two readings of Neutron, and the longest where it gives no notice.
const SHORTEST: Duration = Duration::from_millis(300);
const LONGEST: Duration = Duration::from_secs(60);

/// Everything the rules depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stand {
    /// When Neutron changed last, in nanoseconds of its clock.
    changed: u64,
    #[serde(flatten)]
    ways: Ways,
}

/// Which ways there are that some clouds have and others do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ways {
    /// Whether a pod reaches floating IPs of the pods' network.
    pub hairpin: bool,
    /// Whether the virtual machine reaches pods at their own addresses, as far as security groups admit it.
    #[serde(default)]
    pub machine_to_pods: bool,
}

impl Default for Ways {
    fn default() -> Self {
        Self { hairpin: true, machine_to_pods: false }
    }
}

/// The files by which Neutron, the gateway and the lab's commands talk.
#[derive(Clone, Debug)]
pub(super) struct Signals {
    folder: PathBuf,
}

impl Signals {
    pub fn new(paths: &Paths) -> Self {
        Self { folder: paths.state().join("cloud") }
    }

    pub fn set_hairpin(&self, on: bool) -> Result<()> {
        write_file(&self.folder.join("hairpin"), if on { "on" } else { "off" })
    }

    pub fn set_machine_to_pods(&self, on: bool) -> Result<()> {
        write_file(&self.folder.join("machine-to-pods"), if on { "on" } else { "off" })
    }

    /// What the network should follow at this moment.
    pub fn wanted(&self) -> Stand {
        let text = |name| fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        let ways =
            Ways { hairpin: text("hairpin") != "off", machine_to_pods: text("machine-to-pods") == "on" };
        Stand { changed: text("changed").parse().unwrap_or(0), ways }
    }

    /// Whether the network has followed as far as `wanted`.
    pub fn followed(&self, wanted: Stand) -> Readiness {
        let done = fs::read_to_string(self.folder.join("done")).ok();
        match done.and_then(|text| serde_json::from_str::<Stand>(&text).ok()) {
            Some(done) if done.changed >= wanted.changed && done.ways == wanted.ways => Readiness::Ready,
            done => Readiness::NotYet(format!("wanted {wanted:?}, has {done:?}")),
        }
    }

    fn set_done(&self, done: Option<Stand>) -> Result<()> {
        let text = serde_json::to_string(&done)
            .map_err(std::io::Error::from)
            .to(|| "describe a change".to_owned())?;
        write_whole(&self.folder.join("done"), &text)
    }

    /// Statuses of floating IPs, for Neutron to take over.
    fn report(&self, statuses: &BTreeMap<&str, &str>) -> Result<()> {
        let text = serde_json::to_string(statuses)
            .map_err(std::io::Error::from)
            .to(|| "describe statuses".to_owned())?;
        write_whole(&self.folder.join("statuses.json"), &text)
    }
}

/// Readers see the old file or the new one.
fn write_whole(file: &Path, text: &str) -> Result<()> {
    let new = file.with_extension("new");
    write_file(&new, text)?;
    fs::rename(&new, file).to(|| format!("write {}", file.display()))
}

/// Starts the gateway unless it runs, and waits until the network is as Neutron's records say.
pub(super) fn start(sandbox: &Sandbox) -> Result<()> {
    let signals = Signals::new(sandbox.paths());
    if !Part::find(sandbox, SUBCOMMAND).is_some_and(|part| part.alive()) {
        // What a gateway did that ended says nothing about the next one.
        signals.set_done(None)?;
    }
    let part = Daemon::new(sandbox, SUBCOMMAND, sandbox.paths().program()).args([SUBCOMMAND]).start()?;
    let wanted = signals.wanted();
    part.wait_until(PATIENCE, || signals.followed(wanted))
}

/// Runs until it is ended. Neutron that does not answer is no reason to end: the rules stay as they are.
pub fn run(paths: &Paths) -> Result<()> {
    prepare()?;
    let signals = Signals::new(paths);
    let facts = CloudFacts::read(&paths.cloud_facts())?;
    let mut gateway =
        Gateway { facts, signals, session: None, picture: Picture::default(), rules: String::new() };
    loop {
        let wanted = gateway.signals.wanted();
        let read = Instant::now();
        match gateway.follow(wanted.ways) {
            Ok(()) => gateway.signals.set_done(Some(wanted))?,
            Err(error) => {
                eprintln!("{error}");
                gateway.session = None;
                sleep(SHORTEST);
                continue;
            }
        }
        sleep(SHORTEST);
        while gateway.signals.wanted() == wanted && read.elapsed() < LONGEST {
            sleep(LOOK);
        }
    }
}

/// The external network, unless it is there: the VM's bridge with the router's address.
fn prepare() -> Result<()> {
    let prefix = EXTERNAL_SUBNET.rsplit('/').next().unwrap_or_default();
    if ip(&format!("link show {EXTERNAL_BRIDGE}")).is_err() {
        ip(&format!("link add {EXTERNAL_BRIDGE} type bridge"))?;
    }
    // The rules know IPv4 only; nothing else gets in.
    write_file(Path::new(&format!("/proc/sys/net/ipv6/conf/{EXTERNAL_BRIDGE}/disable_ipv6")), "1")?;
    // Addresses and classes of a gateway that ran before.
    ip(&format!("addr flush dev {EXTERNAL_BRIDGE}"))?;
    ip(&format!("addr add {EXTERNAL_GATEWAY}/{prefix} dev {EXTERNAL_BRIDGE}"))?;
    ip(&format!("link set {EXTERNAL_BRIDGE} up"))?;
    for device in [POD_BRIDGE, EXTERNAL_BRIDGE] {
        // Fails when there is none.
        let _ = text(Command::new("tc").args(["qdisc", "del", "dev", device, "root"]));
    }
    feed("tc", &["-batch", "-"], &roots())
}

struct Gateway {
    facts: CloudFacts,
    signals: Signals,
    session: Option<Session>,
    /// What the rules that hold now were made of.
    picture: Picture,
    rules: String,
}

impl Gateway {
    fn follow(&mut self, ways: Ways) -> Result<()> {
        let records = self.read()?;
        let picture = records.picture(ways);
        self.program(&picture)?;
        let statuses = statuses(&records);
        self.signals.report(&statuses)
    }

    fn read(&mut self) -> Result<Records> {
        let session = match self.session.take() {
            Some(session) => session,
            None => {
                Session::open(Http::here(), &self.facts.keystone, &self.facts.neutron, &self.facts.admin)?
            }
        };
        let floating_ips = session.floating_ips()?;
        let ports = format!("/ports?network_id={}", self.facts.pod_network_id);
        let groups = "/security-groups?fields=id&fields=security_group_rules";
        let shaped =
            |fip: &super::FloatingIp| fip.qos_policy_id.is_some() || fip.qos_network_policy_id.is_some();
        let policies = if floating_ips.iter().any(shaped) {
            field(session.network("GET", "/qos/policies", None)?, "policies")?
        } else {
            Vec::new()
        };
        let records = Records {
            floating_ips,
            ports: field(session.network("GET", &ports, None)?, "ports")?,
            groups: field(session.network("GET", groups, None)?, "security_groups")?,
            policies,
        };
        self.session = Some(session);
        Ok(records)
    }

    fn program(&mut self, picture: &Picture) -> Result<()> {
        let rules = ruleset(picture);
        if rules == self.rules && *picture == self.picture {
            return Ok(());
        }
        feed("tc", &["-batch", "-"], &shaping(&self.picture, picture))?;
        feed("nft", &["-f", "-"], &rules)?;
        let (before, after) = (targets(&self.picture), targets(picture));
        // The router answers for an address (ARP) as long as it leads somewhere.
        for floating in after.keys().filter(|floating| !before.contains_key(floating)) {
            ip(&format!("addr replace {floating}/32 dev {EXTERNAL_BRIDGE}"))?;
        }
        for floating in before.keys().filter(|floating| !after.contains_key(floating)) {
            ip(&format!("addr del {floating}/32 dev {EXTERNAL_BRIDGE}"))?;
        }
        for floating in before.keys().filter(|floating| before.get(*floating) != after.get(*floating)) {
            forget_connections(*floating);
        }
        let addresses =
            picture.addresses.iter().map(|address| format!("{} -> {:?}", address.floating, address.target));
        eprintln!(
            "{:?}, {} pods, {}",
            picture.ways,
            picture.pods.len(),
            addresses.collect::<Vec<_>>().join(", ")
        );
        self.picture = picture.clone();
        self.rules = rules;
        Ok(())
    }
}

fn targets(picture: &Picture) -> BTreeMap<Ipv4Addr, &Target> {
    picture.addresses.iter().map(|address| (address.floating, &address.target)).collect()
}

/// Connections through an address that leads elsewhere now: the kernel would go on translating them as before.
fn forget_connections(floating: Ipv4Addr) {
    for direction in ["--orig-dst", "--reply-dst"] {
        // Fails when there was none.
        let _ = text(Command::new("conntrack").args(["--delete", direction, &floating.to_string()]));
    }
}

/// Of those floating IPs whose status is not yet what it should be.
fn statuses(records: &Records) -> BTreeMap<&str, &'static str> {
    let wanted = records.floating_ips.iter().map(|fip| {
        let leads = fip.port_id.is_some() || !fip.port_forwardings.is_empty();
        (fip, if leads { "ACTIVE" } else { "DOWN" })
    });
    wanted
        .filter(|(fip, status)| fip.status != *status)
        .map(|(fip, status)| (fip.id.as_str(), status))
        .collect()
}

fn ip(arguments: &str) -> Result<String> {
    text(Command::new("ip").args(arguments.split(' ')))
}

fn feed(program: &str, arguments: &[&str], input: &str) -> Result<()> {
    if input.is_empty() {
        return Ok(());
    }
    let line = format!("{program} {}", arguments.join(" "));
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().to(|| format!("run {line}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).to(|| format!("write to {line}"))?;
    }
    successful(line.clone(), child.wait_with_output().to(|| format!("wait for {line}"))?).map(|_| ())
}
