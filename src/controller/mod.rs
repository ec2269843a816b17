//! Drives reconciles: watches feed a queue of keys, workers take them while this replica leads.

use std::{sync::Arc, time::Duration};

use crate::{
    domain::AccessKey,
    report::metrics::Metrics,
    runtime::lease::LeaseHolder,
    seams::{Clock, Leadership},
};

pub mod queue;
pub mod reconcile;
pub mod watches;

use queue::WorkQueue;
use reconcile::Reconciler;

/// When a key that was taken without leadership comes back.
const LOOK: Duration = Duration::from_millis(200);

/// Takes keys and reconciles them until the queue is closed; only while this replica leads.
pub async fn work(
    queue: Arc<WorkQueue<AccessKey>>,
    reconciler: Arc<Reconciler>,
    lease: Arc<LeaseHolder>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
) {
    loop {
        tokio::select! {
            biased;
            () = lease.leading() => {}
            // Who ends and does not lead has nothing to finish.
            () = lease.ending() => return,
        }
        let Some(key) = queue.take().await else { return };
        if !lease.leads() {
            // Leadership went while it waited: somebody else does it, and so do we when it comes back.
            queue.done(&key, &queue::Outcome { look_again: Some(LOOK), failed: false });
            continue;
        }
        let start = clock.monotonic();
        let outcome = reconciler.reconcile(&key).await;
        metrics.reconciled(outcome.failed, clock.monotonic() - start);
        queue.done(&key, &outcome);
    }
}
