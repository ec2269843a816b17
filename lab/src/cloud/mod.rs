//! The cloud: Keystone and Neutron as they are, and a router that makes of Neutron's records what a cloud's network makes of them.

mod api;
pub mod cni;
mod facts;
pub mod gateway;
mod http;
pub mod machine;
mod openstack;
mod picture;
mod records;
mod rules;
mod seed;
mod shaping;
mod template;

pub use api::{Cloud, Service, Session, clouds_yaml};
pub use facts::{Account, CloudFacts};
pub use machine::Machine;
pub use openstack::OpenStack;
pub use records::{
    ApplicationCredential, Direction, FixedIp, FloatingIp, Port, PortForwarding, Rule, SecurityRule,
};

use std::path::Path;
use std::time::Duration;

use crate::cache::{Cache, lock};
use crate::error::Result;
use crate::kubernetes::Cluster;
use crate::paths::Paths;
use crate::progress::Progress;
use crate::sandbox::Sandbox;

/// How long a change may take from Neutron's record to the network.
const PATIENCE: Duration = Duration::from_secs(30);

/// Installs and builds what the cloud needs and is missing; `program` is the `lab` executable.
pub fn prepare(cache: &Cache, program: &Path, progress: &Progress) -> Result<()> {
    openstack::install(cache, progress)?;
    if !template::is_set_up(cache) {
        progress.step("a cloud's projects, users and networks", |_| template::set_up(cache, program))?;
    }
    Ok(())
}

/// Starts what does not run of the cloud, and waits until all of it answers. [`prepare`] comes first.
pub fn up(sandbox: &Sandbox, cache: &Cache, progress: &Progress) -> Result<Cloud> {
    progress.step("cloud", |step| {
        let template = template::set_up(cache, &sandbox.paths().program())?;
        OpenStack::new(sandbox, cache)?.start(&template)?;
        template::facts(&template, sandbox.paths())?;
        step.note("router and virtual machine");
        gateway::start(sandbox)?;
        Machine::start(sandbox)?;
        Cloud::attach(sandbox, cache)
    })
}

/// Starts the cloud without Kubernetes, for those who only talk to its API. `program` is the `lab` executable. A later full start adds what is missing.
pub fn up_alone(paths: &Paths, program: &Path, progress: &Progress) -> Result<Cloud> {
    let _lock = lock(&paths.lock_file())?;
    let cache = Cache::new(paths);
    prepare(&cache, program, progress)?;
    let sandbox = match Sandbox::attach(paths) {
        Some(sandbox) => sandbox,
        None => Sandbox::start(paths, program)?,
    };
    Cluster::make_bridge(&sandbox)?;
    up(&sandbox, &cache, progress)
}
