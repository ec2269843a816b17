//! Who may write, and until when: the lease of two replicas against a simulated API server, and the end of a process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use kafka_external_access::{
    kubernetes::Kubernetes,
    runtime::lease::LeaseHolder,
    seams::{Clock, Leadership},
};

use crate::{
    kubernetes::ApiServer,
    tap::{Cut, Seam, Tap, TappedKubernetes},
    world::World,
};

const LASTS: Duration = Duration::from_secs(15);
/// When the leader stops writing.
const WRITES: Duration = Duration::from_secs(12);
const STEP: Duration = Duration::from_millis(100);

/// Time that passes when the test lets it pass, and never by itself. In milliseconds.
#[derive(Default)]
struct HandClock(AtomicU64);

#[async_trait]
impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH + self.monotonic()
    }
    fn steady(&self) -> Timestamp {
        self.now()
    }
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
    async fn sleep(&self, period: Duration) {
        let until = self.monotonic() + period;
        while self.monotonic() < until {
            tokio::task::yield_now().await;
        }
    }
}

/// A replica, and what it asks of the API server.
struct Replica {
    lease: LeaseHolder,
    tap: Arc<Tap>,
    clock: Arc<HandClock>,
}

impl Replica {
    /// Its name is its own; clock and API server are those of all.
    fn new(me: &str, server: &Arc<ApiServer>, clock: &Arc<HandClock>) -> Self {
        let tap = Arc::new(Tap::default());
        let kubernetes: Arc<dyn Kubernetes> = Arc::new(TappedKubernetes(tap.clone(), server.clone()));
        let lease = LeaseHolder::new(kubernetes, clock.clone(), "default", "leader", me, LASTS);
        Self { lease, tap, clock: clock.clone() }
    }

    /// One turn, during which time passes only while an answer does not come.
    async fn turn(&self) -> Duration {
        let turn = self.lease.turn();
        let mut turn = std::pin::pin!(turn);
        loop {
            let patience = async {
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                wait = &mut turn => return wait,
                () = patience => { self.clock.0.fetch_add(100, Ordering::SeqCst); }
            }
        }
    }
}

fn pair() -> (Replica, Replica, Arc<HandClock>) {
    let (server, clock) = (Arc::new(ApiServer::default()), Arc::new(HandClock::default()));
    (Replica::new("first", &server, &clock), Replica::new("second", &server, &clock), clock)
}

fn pass(clock: &HandClock, period: Duration) {
    clock.0.fetch_add(u64::try_from(period.as_millis()).expect("a period"), Ordering::SeqCst);
}

#[tokio::test]
async fn a_lease_is_renewed_by_one_write_and_no_read() {
    let (first, _, clock) = pair();
    let wait = first.turn().await;
    first.tap.clear();
    for _ in 0..10 {
        pass(&clock, wait);
        assert!(first.lease.leads());
        first.turn().await;
    }
    assert_eq!((first.tap.count(Seam::Kubernetes, "write_lease"), first.tap.calls().len()), (10, 10));
}

#[tokio::test]
async fn the_right_to_write_ends_before_the_lease_and_a_permit_ends_with_it() {
    let (first, _, clock) = pair();
    first.turn().await;
    pass(&clock, WRITES - Duration::from_millis(1));
    let permit = first.lease.permit().expect("the last moment");
    assert!(permit.holds());
    pass(&clock, Duration::from_millis(1));
    assert!(first.lease.permit().is_none());
    assert!(!permit.holds(), "a write that waited for something is not sent any more");
}

#[tokio::test]
async fn two_replicas_never_lead_at_once_and_the_second_leads_when_the_lease_of_a_dead_one_is_over() {
    for last_renewal in [0, 1, 2] {
        let (first, second, clock) = pair();
        let wait = first.turn().await;
        second.turn().await;
        for _ in 0..last_renewal {
            pass(&clock, wait);
            first.turn().await;
            second.turn().await;
        }
        let died = clock.monotonic();
        let mut next = Duration::ZERO;
        while !second.lease.leads() {
            assert!(clock.monotonic() < died + LASTS + STEP, "it waits for longer than the lease");
            if next <= clock.monotonic() {
                next = clock.monotonic() + second.turn().await;
            }
            assert!(!(first.lease.leads() && second.lease.leads()));
            pass(&clock, STEP);
        }
        assert!(clock.monotonic() >= died + LASTS, "it did not wait for the whole lease");
        pass(&clock, WRITES - STEP - STEP);
        first.turn().await;
        assert!(second.lease.leads() && !first.lease.leads(), "who comes back waits");
    }
}

#[tokio::test]
async fn a_lease_that_is_given_back_is_taken_at_once_and_not_claimed_again_by_who_gave_it() {
    let (first, second, _) = pair();
    first.turn().await;
    second.turn().await;
    assert!(first.lease.leads() && !second.lease.leads());
    first.lease.release().await.expect("it is given back");
    assert!(first.lease.permit().is_none());
    first.turn().await;
    second.turn().await;
    assert!(second.lease.leads() && !first.lease.leads());
}

#[tokio::test]
async fn a_renewal_under_way_does_not_keep_a_lease_from_being_given_back() {
    let (server, clock) = (Arc::new(ApiServer::default()), Arc::new(HandClock::default()));
    let [first, same, second] = ["first", "first", "second"].map(|me| Replica::new(me, &server, &clock));
    first.turn().await;
    second.turn().await;
    // The renewal is written between the release's read and its write.
    let (_, given) = tokio::join!(biased; same.turn(), first.lease.release());
    given.expect("it is given back");
    assert_eq!(first.tap.count(Seam::Kubernetes, "write_lease"), 1 + 2, "the first try met the renewal");
    second.turn().await;
    assert!(second.lease.leads());
}

#[tokio::test]
async fn an_answer_that_does_not_come_costs_a_try_and_not_the_leadership() {
    let (first, second, clock) = pair();
    let wait = first.turn().await;
    second.turn().await;
    for lost in [Cut::Before(0), Cut::After(0)] {
        pass(&clock, wait);
        first.tap.clear();
        first.tap.cut_at(Some(lost));
        let retry = first.turn().await;
        assert!(retry < wait, "it tries again sooner: {retry:?}");
        assert!(first.lease.leads(), "the lease lasts for more than one try");
        first.tap.cut_at(None);
        pass(&clock, retry);
        first.turn().await;
        pass(&clock, WRITES - STEP);
        assert!(first.lease.leads(), "renewed, {lost:?}");
        first.turn().await;
        second.turn().await;
        assert!(!second.lease.leads());
    }
}

#[tokio::test]
async fn a_process_that_ends_finishes_what_it_does_and_begins_nothing() {
    let world = World::of_three_brokers().await;
    // Two finalizers, then the first address.
    world.tap.end_after(Some(3));
    world.reconcile().await;
    assert_eq!(world.tap.writes(Seam::Cloud), ["create"]);
    assert_eq!(world.tap.writes(Seam::Kubernetes), ["set_finalizer", "set_secret_finalizer"]);
    assert_eq!(world.tap.events(), 1, "what was done is told");
    world.tap.end_after(None);
    world.restart();
    world.settle_until_ready().await;
    assert_eq!(world.tap.writes(Seam::Cloud).len(), 3, "another one goes on where it ended");
}
