//! The product on real parts: Kubernetes, Kafka, Keystone and Neutron of the lab, and a virtual machine that reaches
//! floating IPs only. Run by `make test-lab`; without a lab these tests fail and say how to start one.
//!
//! Each takes a lab for itself (`LAB_STATE_HOMES`), so with as many labs as threads they run side by side.

mod elsewhere;
mod installed;
mod operator;
mod proxy;
mod witness;
mod world;

mod addresses;
mod attacks;
mod chart;
mod classes;
mod cli;
mod corrupted;
mod fire;
mod first_steps;
mod generated;
mod hosts;
mod hosts_endpoint;
mod kraft;
mod limits;
mod listeners;
mod migration;
mod outages;
mod refusals;
mod replicas;
mod restart;
mod rights;
mod samples;
mod schema;
mod telemetry;
mod told_apart;
mod vantage;
