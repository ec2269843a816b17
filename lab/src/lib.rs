//! A laboratory of real parts on one machine: Kubernetes, Kafka, Keystone and Neutron, in namespaces of their own.
//!
//! `cargo lab up` starts it; tests attach to it and call it directly. What needs a registry (apt, Go, Maven, pip) happens before the sandbox exists, because
//! nothing inside can reach one.

pub mod addresses;
mod cache;
mod cgroup;
pub mod cloud;
mod error;
mod holder;
pub mod image;
pub mod kafka;
pub mod kubernetes;
mod lab;
mod packages;
mod paths;
mod pool;
mod process;
mod progress;
pub mod prometheus;
mod sandbox;
mod template;

pub use cache::Cache;
pub use error::{Context, LabError, Result, read_file, write_file};
pub use holder::{SUBCOMMAND as HOLDER_SUBCOMMAND, hold};
pub use lab::{Facts, Lab, Options};
pub use packages::ensure as ensure_packages;
pub use paths::Paths;
pub use pool::{Turn, shared_labs};
pub use process::{Daemon, Part, Process, Readiness, text, wait_until};
pub use progress::{Progress, Step};
pub use sandbox::{Command, SYSTEM_PATH, Sandbox};
