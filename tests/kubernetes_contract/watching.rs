//! What only the real API server does: watches as the controller has them, patches that it takes and refuses, and who owns
//! a field.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use kafka_external_access::{
    api::{FINALIZER, KafkaExternalAccess, KafkaExternalAccessStatus},
    controller::{
        queue::{Outcome, WorkQueue},
        watches::{NAMES, Watches},
    },
    domain::AccessKey,
    kubernetes::Kubernetes,
    runtime::clock::{SystemClock, SystemRandom},
    seams::{Leadership, SoleReplica, WritePermit},
};
use kube::{
    Client, ResourceExt,
    api::{Patch, PatchParams, WatchEvent, WatchParams},
    client::{Body, ClientBuilder},
};
use serde_json::json;
use tower::util::MapRequestLayer;

use crate::{
    real::{Real, in_lab},
    suite::World,
};

fn permit() -> WritePermit {
    SoleReplica.permit().expect("nobody else leads")
}

/// Requests as they were sent, and how many watches begin at a version that is long gone.
#[derive(Default)]
struct Wire {
    sent: Vec<String>,
    expired: VecDeque<()>,
}

/// A client whose next watches of `plural` ask for events from the very first version on: what comes is 410, "too old".
fn client(world: &Real, plural: &'static str, expired: usize) -> (Client, Arc<Mutex<Wire>>) {
    let wire = Arc::new(Mutex::new(Wire { sent: Vec::new(), expired: vec![(); expired].into() }));
    let seen = wire.clone();
    let layer = MapRequestLayer::new(move |mut request: http::Request<Body>| {
        let mut wire = seen.lock().expect("no test panics with it");
        let uri = request.uri().to_string();
        wire.sent.push(uri.clone());
        if uri.contains("watch=true") && uri.contains(plural) && wire.expired.pop_front().is_some() {
            let (before, rest) = uri.split_once("resourceVersion=").expect("a version to begin with");
            let after = rest.split_once('&').map_or("", |(_, after)| after);
            let old = format!("{before}resourceVersion=1&{after}");
            *request.uri_mut() = old.trim_end_matches('&').parse().expect("a URI");
        }
        request
    });
    let client = ClientBuilder::try_from(world.config.clone()).expect("a client").with_layer(&layer).build();
    (client, wire)
}

struct Queue {
    queue: Arc<WorkQueue<AccessKey>>,
}

impl Queue {
    fn watching(world: &Real, client: Client) -> (Self, Arc<Watches>) {
        let queue = Arc::new(WorkQueue::new(Arc::new(SystemClock::default()), Arc::new(SystemRandom)));
        let clock = Arc::new(SystemClock::default());
        let watches = Watches::new(client, vec![world.key().namespace], "default", queue.clone(), clock);
        watches.start();
        (Self { queue }, watches)
    }

    /// True when the key comes within the time, however often.
    async fn has(&self, key: &AccessKey, limit: Duration) -> bool {
        let came = tokio::time::timeout(limit, async {
            loop {
                let next = self.queue.take().await.expect("it is open");
                self.queue.done(&next, &Outcome { look_again: None, failed: false });
                if next == *key {
                    return;
                }
            }
        });
        came.await.is_ok()
    }

    /// Takes what is there, until nothing comes.
    async fn drain(&self, key: &AccessKey) {
        while self.has(key, Duration::from_millis(500)).await {}
    }
}

const SOON: Duration = Duration::from_secs(20);

#[test]
fn what_happens_to_an_object_its_brokers_or_its_secret_brings_it_into_the_queue() {
    in_lab(async |world| {
        let key = world.key();
        let openstack = json!({
            "type": "OpenStack",
            "openstack": {"cloudName": "lab", "credentialsSecretRef": {"name": key.name}, "floatingNetwork": "x"},
        });
        world.make_access().await;
        let (queue, watches) = Queue::watching(world, world.kube.clone());
        assert!(queue.has(&key, SOON).await, "what exists already");
        queue.drain(&key).await;
        assert_eq!(watches.missing(), Vec::<&str>::new(), "{NAMES:?}");
        world.edit_access("7s").await;
        assert!(queue.has(&key, SOON).await, "an edit");
        queue.drain(&key).await;
        world.make_stateful_set().await;
        assert!(queue.has(&key, SOON).await, "its StatefulSet");
        queue.drain(&key).await;
        world.delete_access().await;
        assert!(queue.has(&key, SOON).await, "its deletion");
        let mut object = crate::suite::smallest(&key);
        let addresses = json!({"provider": openstack});
        object.spec.addresses = serde_json::from_value(addresses).expect("addresses");
        let made =
            world.all::<KafkaExternalAccess>().create(&kube::api::PostParams::default(), &object).await;
        made.expect("an object with a Secret");
        queue.drain(&key).await;
        world.make_secret().await;
        assert!(queue.has(&key, SOON).await, "its Secret");
        queue.drain(&key).await;
        world.delete_secret().await;
        assert!(queue.has(&key, SOON).await, "its Secret's end");
    });
}

#[test]
fn a_watch_that_is_too_old_lists_again_and_misses_nothing() {
    in_lab(async |world| {
        let key = world.key();
        world.make_access().await;
        let (client, wire) = client(world, "kafkaexternalaccesses", 2);
        let (queue, _watches) = Queue::watching(world, client);
        assert!(queue.has(&key, SOON).await, "from the first list");
        let lists = || {
            let wire = wire.lock().expect("no test panics with it");
            let of_objects = wire.sent.iter().filter(|uri| uri.contains("kafkaexternalaccesses"));
            of_objects.filter(|uri| !uri.contains("watch=true")).count()
        };
        for _ in 0..300 {
            if lists() >= 3 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(lists(), 3, "each watch that is too old is followed by a list");
        queue.drain(&key).await;
        world.edit_access("7s").await;
        assert!(queue.has(&key, SOON).await, "the watch after that goes on");
        world.delete_access().await;
        assert!(queue.has(&key, SOON).await, "and hears of the deletion");
    });
}

/// A quiet watch learns how far it has come, so that going on does not begin at a version that is long gone.
#[test]
#[ignore = "the API server sends bookmarks about once a minute, and not within each watch of that length"]
fn a_quiet_watch_gets_a_bookmark_to_go_on_from() {
    in_lab(async |world| {
        world.make_access().await;
        let api = world.all::<KafkaExternalAccess>();
        let first = api.list(&Default::default()).await.expect("a list").metadata.resource_version;
        let params = WatchParams::default().timeout(8);
        let start = first.unwrap_or_default();
        let mut events = api.watch(&params, &start).await.expect("a watch").boxed();
        let mut bookmark = None;
        while let Some(event) = events.next().await {
            match event.expect("an event") {
                WatchEvent::Bookmark(mark) => bookmark = Some(mark.metadata.resource_version),
                other => panic!("{other:?}"),
            }
        }
        let bookmark = bookmark.expect("a bookmark before the end");
        world.edit_access("7s").await;
        let mut events = api.watch(&params, &bookmark).await.expect("a watch").boxed();
        let next = events.next().await.expect("an event").expect("an event");
        assert!(
            matches!(&next, WatchEvent::Modified(object) if object.spec.probe.timeout == "7s"),
            "{next:?}"
        );
    });
}

/// So the version in a patch is replaced and not tested: a race must be told from a patch that is wrong.
#[test]
fn a_patch_whose_test_fails_is_invalid_and_one_whose_version_is_stale_is_a_conflict() {
    in_lab(async |world| {
        world.make_access().await;
        let stale = world.api.access(&world.key()).await.expect("an answer").expect("the object");
        world.label_access("somebody").await;
        let api = world.all::<KafkaExternalAccess>();
        let code = async |operations: serde_json::Value| {
            let patch: json_patch::Patch = serde_json::from_value(operations).expect("a patch");
            let answer =
                api.patch(&stale.name_any(), &PatchParams::default(), &Patch::Json::<()>(patch)).await;
            match answer {
                Err(kube::Error::Api(status)) => status.code,
                other => panic!("a refusal: {other:?}"),
            }
        };
        let version = json!(stale.resource_version());
        let path = "/metadata/resourceVersion";
        assert_eq!(code(json!([{"op": "test", "path": path, "value": version}])).await, 422);
        assert_eq!(code(json!([{"op": "replace", "path": path, "value": version}])).await, 409);
        assert_eq!(code(json!([{"op": "remove", "path": "/spec/nothing"}])).await, 422);
    });
}

/// What the operator owns is not in the file that the user applies, and so an apply takes nothing of it away.
#[test]
fn a_user_who_applies_the_file_again_takes_neither_finalizer_nor_status() {
    in_lab(async |world| {
        let key = world.key();
        let mut file = serde_json::to_value(crate::suite::smallest(&key)).expect("a file");
        file.as_object_mut().expect("an object").remove("status");
        let path = std::env::temp_dir().join(format!("{}.json", key.name));
        std::fs::write(&path, file.to_string()).expect("a file");
        let path = path.display().to_string();
        world.lab.kubectl(&["apply", "--server-side", "-f", &path]).expect("applied");
        let read = async || world.api.access(&key).await.expect("an answer").expect("the object");
        let with = world.api.set_finalizer(permit(), &read().await, true).await.expect("a finalizer");
        let told = KafkaExternalAccessStatus { observed_generation: Some(1), ..Default::default() };
        world.api.write_status(permit(), &with, &told).await.expect("a status");
        for again in [&["apply", "--server-side", "-f", &path][..], &["apply", "-f", &path]] {
            world.lab.kubectl(again).expect("applied again");
            let now = read().await;
            assert!(now.finalizers().iter().any(|finalizer| finalizer == FINALIZER), "{again:?}");
            assert_eq!((now.status, now.metadata.generation), (Some(told.clone()), Some(1)), "{again:?}");
        }
        let managers = read().await.metadata.managed_fields.unwrap_or_default();
        let owns = |field: &str| {
            let owner = managers.iter().find(|entry| {
                entry.fields_v1.as_ref().is_some_and(|fields| fields.0.to_string().contains(field))
            });
            owner.and_then(|entry| entry.manager.clone())
        };
        let ours = Some("kafka-external-access".to_owned());
        assert_eq!((owns(&format!("v:\\\"{FINALIZER}")), owns("f:observedGeneration")), (ours.clone(), ours));
        std::fs::remove_file(path).expect("removed");
    });
}
