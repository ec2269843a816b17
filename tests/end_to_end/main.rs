//! The product on real parts: Kubernetes, Kafka, Keystone and Neutron of the lab, and a virtual machine that reaches
//! floating IPs only. Run by `make test-lab`; without a lab these tests fail and say how to start one.
//!
//! They share one cluster and one cloud, so they run one after the other (`--test-threads=1`).

mod operator;
mod proxy;
mod world;

mod addresses;
mod first_steps;
mod kraft;
mod limits;
mod listeners;
mod outages;
mod refusals;
mod replicas;
mod schema;
