//! The virtual machine of the same cloud: it reaches floating IPs and, unless told otherwise, nothing else.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{getpid, sethostname};

use crate::addresses::{EXTERNAL_BRIDGE, EXTERNAL_GATEWAY, EXTERNAL_SUBNET, MACHINE};
use crate::cache::remove_folder;
use crate::error::{Context, LabError, Result, write_file};
use crate::paths::Paths;
use crate::process::{Daemon, Part, Readiness, text};
use crate::sandbox::{Command, Sandbox};

/// The hidden subcommand that runs [`hold`], and the name of the part.
pub const SUBCOMMAND: &str = "machine";
const LOCALHOST: &str = "127.0.0.1 localhost\n";
/// Its network interface, and the other end of the cable.
const INTERFACE: &str = "eth0";
const CABLE: &str = "vm0";

/// The virtual machine: a network and a view of /etc of its own.
#[derive(Clone, Debug)]
pub struct Machine {
    inside: Sandbox,
}

impl Machine {
    pub(super) fn start(sandbox: &Sandbox) -> Result<Self> {
        let daemon = Daemon::new(sandbox, SUBCOMMAND, sandbox.paths().program()).args([SUBCOMMAND]);
        let part = daemon.start()?;
        let machine = Self::attach(sandbox)?;
        part.wait_until(std::time::Duration::from_secs(20), || {
            let routes = machine.command("ip").args(["route", "show", "default"]).text();
            match routes {
                Ok(routes) if routes.contains(EXTERNAL_GATEWAY) => Readiness::Ready,
                other => Readiness::NotYet(format!("no default route: {other:?}")),
            }
        })?;
        Ok(machine)
    }

    /// The machine of a running lab.
    pub fn attach(sandbox: &Sandbox) -> Result<Self> {
        let part = Part::find(sandbox, SUBCOMMAND).filter(Part::alive).ok_or(LabError::NotRunning)?;
        Ok(Self { inside: sandbox.of(part.process) })
    }

    /// A command that will run on the machine.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.inside.command(program)
    }

    /// Moves the calling thread, and those it starts from now on, into the machine's network.
    pub fn enter_network(&self) -> Result<()> {
        self.inside.enter_network()
    }

    /// Writes its /etc/hosts: `localhost` and these lines, in place of what was there.
    pub fn write_hosts(&self, lines: &str) -> Result<()> {
        // In place: whoever has it open or mounted sees the same file.
        self.command("sh")
            .args(["-c", "cat > /etc/hosts"])
            .text_with_input(format!("{LOCALHOST}{lines}\n").as_bytes())
            .map(drop)
    }
}

/// The process that is the machine. Its namespaces end with it.
pub fn hold(paths: &Paths) -> Result<()> {
    let folder = paths.part(SUBCOMMAND)?;
    let etc = folder.join("etc");
    // A folder of its own, in which files can be replaced by rename as on any machine.
    remove_folder(&etc)?;
    text(std::process::Command::new("cp").args(["-a", "/etc"]).arg(&etc))?;
    // No name server at all: what the machine knows of names stands in its /etc/hosts.
    for (name, content) in [("hosts", LOCALHOST), ("resolv.conf", "")] {
        // A link would lead out of the folder.
        fs::remove_file(etc.join(name)).ok();
        write_file(&etc.join(name), content)?;
    }
    let signals = SigSet::from_iter([Signal::SIGTERM]);
    signals.thread_block().to(|| "block signals".to_owned())?;
    let namespaces = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS;
    unshare(namespaces).to(|| "make namespaces".to_owned())?;
    sethostname("vm").to(|| "set the host name".to_owned())?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>)
        .to(|| "set the propagation of mounts".to_owned())?;
    mount(Some(&etc), "/etc", None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .to(|| "show the machine its own /etc".to_owned())?;
    plug_in()?;
    signals.wait().to(|| "wait for a signal".to_owned())?;
    Ok(())
}

fn plug_in() -> Result<()> {
    let ip = |arguments: String| text(std::process::Command::new("ip").args(arguments.split(' ')));
    write_file(Path::new("/proc/sys/net/ipv6/conf/all/disable_ipv6"), "1")?;
    ip("link set lo up".to_owned())?;
    // The first process of the sandbox has the router's network.
    ip(format!("link add {INTERFACE} type veth peer name {CABLE} netns 1"))?;
    let router = "nsenter --net=/proc/1/ns/net ip link set";
    let mut plug = std::process::Command::new("sh");
    text(plug.args(["-c", &format!("{router} {CABLE} master {EXTERNAL_BRIDGE} && {router} {CABLE} up")]))?;
    let prefix = EXTERNAL_SUBNET.rsplit('/').next().unwrap_or_default();
    ip(format!("addr add {MACHINE}/{prefix} dev {INTERFACE}"))?;
    ip(format!("link set {INTERFACE} up"))?;
    ip(format!("route add default via {EXTERNAL_GATEWAY}"))?;
    eprintln!("process {} is the virtual machine {MACHINE}", getpid());
    Ok(())
}
