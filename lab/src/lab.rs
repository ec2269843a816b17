use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cache::{Cache, lock};
use crate::cloud::{self, Cloud, Machine};
use crate::error::{Context, LabError, Result, read_file, write_file};
use crate::kafka::{self, Flavour, Kafka};
use crate::kubernetes::{self, Cluster, Image};
use crate::packages;
use crate::paths::Paths;
use crate::process::Part;
use crate::progress::Progress;
use crate::sandbox::{Command, SYSTEM_PATH, Sandbox, install};

/// What to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `lab` executable; the lab runs a copy of it.
    pub program: PathBuf,
    /// The Kafka to deploy into [`kafka::NAMESPACE`]; none: Kubernetes and the cloud only.
    pub kafka: Option<Flavour>,
}

/// Facts about a running lab that programs need which use it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// The administrator's kubeconfig; the server's address exists in the lab's network only.
    pub kubeconfig: PathBuf,
    /// The folder of kubectl and the other built programs.
    pub programs: PathBuf,
    /// What was asked of the API server, one JSON object a line.
    pub audit_log: PathBuf,
    /// The folder from which `up` was called first.
    pub started_from: PathBuf,
}

/// A running lab.
#[derive(Clone, Debug)]
pub struct Lab {
    sandbox: Sandbox,
    cluster: Cluster,
    cloud: Cloud,
    facts: Facts,
}

impl Lab {
    /// Starts what does not run, building and installing what is missing, and waits until all of it is ready.
    pub fn up(options: &Options, progress: &Progress) -> Result<Self> {
        require_root()?;
        let paths = Paths::from_environment();
        let _lock = lock(&paths.lock_file())?;
        let built = Built::prepare(&Cache::new(&paths), options, progress)?;
        let (sandbox, fresh) = match Sandbox::attach(&paths) {
            Some(sandbox) => {
                // What starts from now on (the gateway, the plugin of the next pod) is of this build.
                install(&options.program, &paths.program())?;
                (sandbox, false)
            }
            None => (Sandbox::start(&paths, &options.program)?, true),
        };
        let lab = Self::start(sandbox, &built, progress)?;
        if !fresh && lab.facts.started_from != here() {
            progress.say(&format!("the lab that runs was started from {}", lab.facts.started_from.display()));
        }
        if let Some(flavour) = options.kafka {
            lab.start_kafka(flavour, progress)?;
        }
        Ok(lab)
    }

    /// The running lab; an error when none runs.
    pub fn attach() -> Result<Self> {
        Self::attach_at(&Paths::from_environment())
    }

    /// The lab that runs at these paths; an error when none does.
    pub fn attach_at(paths: &Paths) -> Result<Self> {
        let sandbox = Sandbox::attach(paths).ok_or(LabError::NotRunning)?;
        // Written when all is up: without it, `up` is still at work or was cut off.
        let facts = fs::read_to_string(paths.facts()).map_err(|_| LabError::NotRunning)?;
        let facts = serde_json::from_str(&facts)
            .map_err(|error| LabError::Malformed { file: paths.facts(), reason: error.to_string() })?;
        let cloud = Cloud::attach(&sandbox, &Cache::new(paths))?;
        Ok(Self { cluster: Cluster::new(&sandbox)?, sandbox, cloud, facts })
    }

    /// Ends the lab and removes all it left; fine when none runs.
    pub fn down() -> Result<()> {
        require_root()?;
        let paths = Paths::from_environment();
        let _lock = lock(&paths.lock_file())?;
        match Sandbox::attach(&paths) {
            Some(sandbox) => sandbox.stop(),
            None => Sandbox::remove_leftovers(&paths),
        }
    }

    /// Facts that other programs need.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What everything runs in.
    #[must_use]
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Keystone and Neutron.
    #[must_use]
    pub fn cloud(&self) -> &Cloud {
        &self.cloud
    }

    /// The virtual machine.
    pub fn vm(&self) -> Result<Machine> {
        Machine::attach(&self.sandbox)
    }

    /// A command inside the lab with KUBECONFIG set and the built programs in PATH.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let path = std::env::var("PATH").unwrap_or_else(|_| SYSTEM_PATH.to_owned());
        let path = format!("{}:{path}", self.facts.programs.display());
        // The program itself is looked up in this process's PATH.
        let built = self.facts.programs.join(program);
        let program = if !program.contains('/') && built.exists() { built } else { PathBuf::from(program) };
        self.sandbox.command(program).env("PATH", path).env("KUBECONFIG", &self.facts.kubeconfig)
    }

    /// Ends the API server, and starts it again; returns when it is ready.
    pub fn restart_api_server(&self) -> Result<()> {
        if let Some(part) = Part::find(&self.sandbox, "kube-apiserver") {
            // It would wait for open watches.
            part.stop(std::time::Duration::from_secs(2))?;
        }
        self.start_control_plane()
    }

    /// Starts what does not run of etcd, API server, controllers, scheduler and DNS; returns when all are ready.
    pub fn start_control_plane(&self) -> Result<()> {
        self.cluster.start_control_plane()
    }

    /// What the lab's Kubernetes is made of.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Runs kubectl as administrator, which must succeed, and gives back what it printed.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.command("kubectl").args(args).text()
    }

    /// Moves the calling thread, and those it starts from now on, into the lab's network: see [`Sandbox::enter_network`].
    pub fn enter_network(&self) -> Result<()> {
        self.sandbox.enter_network()
    }

    /// A Kafka in a namespace; deployed by [`Kafka::deploy`].
    #[must_use]
    pub fn kafka(&self, flavour: Flavour, namespace: &str) -> Kafka<'_> {
        Kafka::new(&self.sandbox, &self.cluster, flavour, namespace)
    }

    /// All parts that were started, alive or not.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        Part::all(&self.sandbox)
    }

    fn start(sandbox: Sandbox, built: &Built, progress: &Progress) -> Result<Self> {
        link_programs(&built.programs, &sandbox.paths().programs())?;
        let cluster = Cluster::new(&sandbox)?;
        Cluster::make_bridge(&sandbox)?;
        let cache = Cache::new(sandbox.paths());
        let cloud = std::thread::scope(|scope| {
            let cloud = scope.spawn(|| cloud::up(&sandbox, &cache, progress));
            progress.step("control plane", |_| cluster.start_control_plane())?;
            cloud.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        // Every pod gets a port in the cloud, so that one comes first.
        let ports = cloud::cni::configuration(&sandbox.paths().cloud_facts());
        progress.step("node", |_| cluster.start_node(&built.pause, &[(cloud::cni::SUBCOMMAND, ports)]))?;
        let facts = Facts {
            kubeconfig: cluster.kubeconfig(),
            programs: sandbox.paths().programs(),
            audit_log: Cluster::audit_log(&sandbox),
            started_from: first_started_from(sandbox.paths()),
        };
        let text = serde_json::to_string_pretty(&facts)
            .map_err(std::io::Error::from)
            .to(|| "describe the lab".to_owned())?;
        write_file(&sandbox.paths().facts(), text)?;
        Ok(Self { sandbox, cluster, cloud, facts })
    }

    fn start_kafka(&self, flavour: Flavour, progress: &Progress) -> Result<()> {
        let kafka = self.kafka(flavour, kafka::NAMESPACE);
        progress.step(&format!("Kafka {}", flavour.version()), |step| {
            kafka.deploy(progress)?;
            step.note("waiting for the brokers");
            kafka.wait_ready()
        })
    }
}

/// What needs a registry, and is there before the sandbox starts.
struct Built {
    programs: Vec<PathBuf>,
    pause: Image,
}

impl Built {
    fn prepare(cache: &Cache, options: &Options, progress: &Progress) -> Result<Self> {
        packages::ensure(&[&kubernetes::PACKAGES[..], &kafka::PACKAGES[..]].concat())?;
        cloud::prepare(cache, &options.program, progress)?;
        let built = Self {
            programs: kubernetes::build(cache, progress)?,
            pause: kafka::pause_image(cache, progress)?,
        };
        if let Some(flavour) = options.kafka {
            flavour.image(cache, progress)?;
        }
        Ok(built)
    }
}

fn link_programs(programs: &[PathBuf], folder: &Path) -> Result<()> {
    for program in programs {
        let link = folder.join(program.file_name().unwrap_or_default());
        if fs::read_link(&link).ok().as_ref() == Some(program) {
            continue;
        }
        // A link that is there points to another version.
        if link.is_symlink() {
            fs::remove_file(&link).to(|| format!("remove {}", link.display()))?;
        }
        symlink(program, &link).to(|| format!("link {}", link.display()))?;
    }
    Ok(())
}

fn first_started_from(paths: &Paths) -> PathBuf {
    let facts = read_file(&paths.facts()).ok();
    let facts = facts.and_then(|text| serde_json::from_str::<Facts>(&text).ok());
    facts.map_or_else(here, |facts| facts.started_from)
}

fn here() -> PathBuf {
    std::env::current_dir().unwrap_or_default()
}

fn require_root() -> Result<()> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { Err(LabError::NotRoot) }
}
