//! Takes part in the election: one turn after the other, and at once when the record changes.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};

use super::lease::LeaseHolder;
use crate::seams::Clock;

type Changes = Pin<Box<dyn Stream<Item = watcher::Result<Event<PartialObjectMeta<Lease>>>> + Send>>;

/// Until the process ends. Who leads renews in time and watches nothing; who does not sees at once when the lease is
/// given back, and otherwise when its end is due.
pub async fn take_part(lease: Arc<LeaseHolder>, clock: Arc<dyn Clock>, client: Client) {
    let mut changes: Option<Changes> = None;
    loop {
        let wait = lease.turn().await;
        if lease.leads() {
            changes = None;
            clock.sleep(wait).await;
        } else {
            let changes = changes.get_or_insert_with(|| watch(&lease, &client));
            tokio::select! { () = clock.sleep(wait) => {} () = changed(changes) => {} }
        }
    }
}

fn watch(lease: &LeaseHolder, client: &Client) -> Changes {
    let (namespace, name) = lease.record_name();
    let api: Api<PartialObjectMeta<Lease>> = Api::namespaced(client.clone(), namespace);
    let one = watcher::Config::default().fields(&format!("metadata.name={name}"));
    Box::pin(watcher(api, one).default_backoff())
}

/// Returns when the record was written or removed. A watch that is interrupted says nothing and goes on.
async fn changed(changes: &mut Changes) {
    while let Some(event) = changes.next().await {
        if matches!(event, Ok(Event::Apply(_) | Event::InitApply(_) | Event::Delete(_))) {
            return;
        }
    }
}
