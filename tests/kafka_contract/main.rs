//! One contract for Kafka, kept by real brokers and by the simulated ones that everything else is tested with.
//!
//! Needs root (a network namespace for each test), `ip`, `setpriv`, Java 17 and Maven.

mod authorized;
mod faults;
mod real;
mod secured;
mod simulated;
mod suite;

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};

use kafka_external_access::{
    domain::NodeId,
    kafka::{Brokers, MetadataMode, Security, Target, admin::TcpBrokers},
    runtime::clock::SystemClock,
    seams::Clock,
};

use self::{
    real::{BOTH_MODES, KRAFT, RealKafka, Release, WITH_ZOOKEEPER},
    simulated::Simulated,
    suite::{INTERNAL_PORT, World},
};

/// Real brokers as a world.
struct Real {
    kafka: RealKafka,
    clock: SystemClock,
    occupied: Option<TcpListener>,
}

/// Loopback of the test's own network.
fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn plain(port: u16) -> Target {
    Target { at: at(port), security: Security::default(), step_timeout: Duration::from_secs(20) }
}

impl Real {
    fn new(kafka: RealKafka) -> Self {
        Self { kafka, clock: SystemClock::default(), occupied: None }
    }
}

impl World for Real {
    fn brokers(&self) -> &dyn Brokers {
        &TcpBrokers
    }

    fn clock(&self) -> &dyn Clock {
        &self.clock
    }

    fn at(&self, _number: u16, port: u16) -> Target {
        plain(port)
    }

    fn occupy(&mut self, _number: u16, port: u16, occupied: bool) {
        let listener = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a free port");
        self.occupied = occupied.then(listener);
    }

    fn restart(&mut self, number: u16) -> bool {
        self.kafka.stop_broker(number.into());
        self.kafka.start_again(number.into())
    }
}

/// A runtime on this thread, because the network belongs to the thread.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

/// The whole suite on two brokers of this release with ZooKeeper.
fn with_zookeeper(release: Release) {
    let mut kafka = RealKafka::in_own_network(release);
    kafka.start_zookeeper();
    for number in [0, 1] {
        let settings = suite::file(number).map(|(setting, value)| format!("{}={value}\n", setting.key()));
        let text = format!("broker.id={number}\ninter.broker.listener.name=INTERNAL\n{}", settings.concat());
        kafka.start_broker(&text);
    }
    block_on(suite::all(&mut Real::new(kafka)));
}

/// The sentences of KRaft on one broker of this release, which is the controller too.
fn in_kraft_mode(release: Release) {
    let mut kafka = RealKafka::in_own_network(release);
    let text = format!(
        "node.id=100\nprocess.roles=broker,controller\ncontroller.quorum.voters=100@localhost:9093\n\
         listeners=INTERNAL://:{INTERNAL_PORT},CONTROLLER://:9093\n\
         advertised.listeners=INTERNAL://localhost:{INTERNAL_PORT}\n\
         listener.security.protocol.map=INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         inter.broker.listener.name=INTERNAL\ncontroller.listener.names=CONTROLLER\n"
    );
    kafka.format(&text, "AAAAAAAAQAAAAAAAAAAAAA");
    kafka.start_broker(&text);
    block_on(suite::kraft(&mut Real::new(kafka), NodeId(100)));
}

#[test]
fn kafka_2_8_2_with_zookeeper_keeps_the_contract() {
    with_zookeeper(WITH_ZOOKEEPER);
}

#[test]
fn kafka_3_9_with_zookeeper_keeps_the_contract() {
    with_zookeeper(BOTH_MODES);
}

#[test]
fn the_simulated_kafka_keeps_the_contract() {
    block_on(suite::all(&mut Simulated::new(MetadataMode::ZooKeeper, &[0, 1])));
}

#[test]
fn kafka_3_9_in_kraft_mode_refuses_what_we_expect_it_to_refuse() {
    in_kraft_mode(BOTH_MODES);
}

#[test]
fn the_newest_kafka_in_kraft_mode_refuses_what_we_expect_it_to_refuse() {
    in_kraft_mode(KRAFT);
}

#[test]
fn the_simulated_kafka_in_kraft_mode_refuses_the_same() {
    block_on(suite::kraft(&mut Simulated::new(MetadataMode::KRaft, &[100]), NodeId(100)));
}
