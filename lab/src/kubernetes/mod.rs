//! Kubernetes of one node, of its real parts.

mod build;
mod control_plane;
mod node;
mod pki;

pub(crate) use build::go_module;
pub use build::{KUBERNETES, build, helm};
pub use node::Image;
pub use pki::Pki;

use std::path::PathBuf;

use crate::process::Daemon;
use crate::sandbox::{Command, Sandbox};

/// The cluster: its keys, and the sandbox it runs in.
#[derive(Clone, Debug)]
pub struct Cluster {
    sandbox: Sandbox,
    pki: Pki,
}

impl Cluster {
    /// A cluster in this sandbox; nothing is started yet.
    pub fn new(sandbox: &Sandbox) -> crate::Result<Self> {
        let pki = Pki::create(&sandbox.paths().part("pki")?)?;
        Ok(Self { sandbox: sandbox.clone(), pki })
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.pki.kubeconfig("admin")
    }

    /// kubectl as administrator.
    #[must_use]
    pub fn kubectl(&self) -> Command {
        self.sandbox
            .command(self.sandbox.paths().programs().join("kubectl"))
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
    }

    fn daemon(&self, name: &str) -> Daemon<'_> {
        Daemon::new(&self.sandbox, name, self.sandbox.paths().programs().join(name))
    }
}

/// `--name=value`.
fn flag(name: &str, value: &str) -> String {
    format!("--{name}={value}")
}

/// Name of the only node.
pub const NODE: &str = "lab-node";

/// Debian packages of the programs that the node needs.
pub const PACKAGES: [(&str, &str); 8] = [
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("conntrack", "conntrack"),
    ("socat", "socat"),
    ("mount", "mount"),
];
