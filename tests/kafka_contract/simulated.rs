//! The simulated Kafka as a world, in virtual time.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use kafka_external_access::{
    domain::NodeId,
    kafka::{
        Brokers, MetadataMode, Security, Target,
        simulated::{BrokerFile, SimulatedBrokers},
    },
    seams::Clock,
};

use crate::suite::{World, file};

/// Time that passes only when somebody sleeps.
#[derive(Default)]
pub struct VirtualClock(Mutex<Duration>);

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH + self.monotonic()
    }

    fn steady(&self) -> Timestamp {
        self.now()
    }
    fn monotonic(&self) -> Duration {
        *self.0.lock().expect("the clock")
    }

    async fn sleep(&self, period: Duration) {
        *self.0.lock().expect("the clock") += period;
    }
}

pub struct Simulated {
    pub clock: Arc<VirtualClock>,
    pub kafka: SimulatedBrokers,
}

impl Simulated {
    pub fn new(mode: MetadataMode, nodes: &[i32]) -> Self {
        let clock = Arc::new(VirtualClock::default());
        let kafka = SimulatedBrokers::new(clock.clone(), mode, Duration::from_millis(300));
        let world = Self { clock, kafka };
        for (number, node) in (0..).zip(nodes) {
            world.kafka.start(NodeId(*node), pod(number), broker_file(number)).expect("a start");
        }
        world
    }
}

pub fn pod(number: u16) -> Ipv4Addr {
    Ipv4Addr::new(10, 128, 0, u8::try_from(number).expect("few brokers"))
}

fn broker_file(number: u16) -> BrokerFile {
    let [(_, listeners), (_, advertised), (_, protocols)] = file(number);
    BrokerFile { listeners, advertised: Some(advertised), protocols, hostname: "localhost".into() }
}

impl World for Simulated {
    fn brokers(&self) -> &dyn Brokers {
        &self.kafka
    }

    fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    fn at(&self, number: u16, port: u16) -> Target {
        Target {
            at: (pod(number), port).into(),
            security: Security::default(),
            step_timeout: Duration::from_secs(5),
        }
    }

    fn occupy(&mut self, number: u16, port: u16, occupied: bool) {
        self.kafka.occupy(pod(number), port, occupied);
    }

    fn restart(&mut self, number: u16) -> bool {
        let node = NodeId(i32::from(number));
        self.kafka.stop(node);
        self.kafka.start(node, pod(number), broker_file(number)).is_ok()
    }
}
