//! Leadership by a Lease object.
//!
//! The right to write is computed at each write from the monotonic clock: it ends a fifth of the lease before the lease
//! does, counted from the moment the last successful renewal was **sent**. Others wait for the whole lease from the
//! moment they saw the record change. So two never lead at once, as long as no clock runs a fifth faster than another;
//! what time of day it is anywhere plays no part.
//!
//! Own code. kube-lease-manager 0.13 was read for the same job and does not do it:
//!
//! | needed here | there |
//! |---|---|
//! | a process that was stopped and goes on must see at its next write that its lease is over | a flag that a task updates when it gets to run |
//! | clocks of other machines are not trusted | the end of another's lease is its `renewTime`, by its wall clock, against one's own |
//! | who takes an expired lease does so on condition that nobody else has | an expired holder is removed by a patch without a version, then everybody tries |
//! | who leads knows until when, so that a slow way to the cloud can be refused at its end | not told |
//!
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::api::ObjectMeta;
use tokio::sync::watch;

use crate::{
    kubernetes::{Kubernetes, KubernetesError, KubernetesFault},
    seams::{Clock, Leadership, WritePermit},
};

/// Time until the next try after one that failed, at most.
const RETRY: Duration = Duration::from_secs(2);
/// A watch tells who does not lead of a change; this is how often it looks all the same, in looks per lease.
const LOOKS: u32 = 3;

/// The times of an election; all follow from how long a lease lasts.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// A lease without renewal.
    lasts: Duration,
    /// Between renewals: two may fail.
    renew: Duration,
    /// How long before its end the leader stops writing.
    margin: Duration,
    /// After a try that failed. A try that takes longer than this has failed.
    retry: Duration,
}

impl Times {
    fn new(lasts: Duration) -> Self {
        Self { lasts, renew: lasts / 3, margin: lasts / 5, retry: RETRY.min(lasts / 5) }
    }
}

/// What the record of the lease means for `me`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take or renew it.
    Claim,
    /// Somebody else holds it.
    Wait,
}

/// Decides from the record, and from how long ago this process saw it change; clocks of others are not trusted.
///
/// | holder | unchanged for | then |
/// |---|---|---|
/// | nobody, or me | any time | claim |
/// | another | less than its duration | wait |
/// | another | its duration or longer | claim |
pub fn evaluate(holder: Option<&str>, me: &str, unchanged_for: Duration, lasts: Duration) -> Verdict {
    match holder {
        None | Some("") => Verdict::Claim,
        Some(other) if other == me => Verdict::Claim,
        Some(_) if unchanged_for >= lasts => Verdict::Claim,
        Some(_) => Verdict::Wait,
    }
}

/// What came of a look at the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// It is held for its whole length from now.
    Held,
    /// Another one holds it, for this long at most unless it renews.
    Theirs(Duration),
    /// Somebody wrote it at the same time.
    Contested,
}

/// Takes part in the election.
pub struct LeaseHolder {
    kubernetes: Arc<dyn Kubernetes>,
    clock: Arc<dyn Clock>,
    namespace: String,
    name: String,
    me: String,
    times: Times,
    state: Mutex<State>,
    /// Tells that leadership has begun.
    begun: watch::Sender<()>,
    ending: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    /// Until when, on the monotonic clock, this process may write.
    until: Option<Duration>,
    /// When the leadership that lasts until then began.
    since: Option<jiff::Timestamp>,
    /// The record seen last, and when it was seen to change.
    seen: Option<(Option<String>, Duration)>,
    /// The record as it was written last, while nobody is known to have written it since.
    written: Option<Lease>,
    released: bool,
    /// Whether the log says that this process leads.
    told: bool,
}

impl LeaseHolder {
    /// A candidate called `me`; must be unique among replicas, restarts included. A lease that is not renewed lasts for
    /// `lasts`, in whole seconds.
    pub fn new(
        kubernetes: Arc<dyn Kubernetes>,
        clock: Arc<dyn Clock>,
        namespace: &str,
        name: &str,
        me: &str,
        lasts: Duration,
    ) -> Self {
        Self {
            kubernetes,
            clock,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            me: me.to_owned(),
            times: Times::new(lasts),
            state: Mutex::default(),
            begun: watch::Sender::new(()),
            ending: watch::Sender::new(false),
        }
    }

    /// One look at the lease, and a claim where that is right. Returns how long to wait before the next, unless the
    /// record changes before.
    pub async fn turn(&self) -> Duration {
        let look = tokio::select! {
            biased;
            look = self.claim() => look,
            // An answer that does not come must not cost the leadership, which lasts for several tries.
            () = self.clock.sleep(self.times.retry) => {
                let fault = KubernetesFault::Unavailable("no answer in time".to_owned());
                Err(KubernetesError { operation: "claim the lease", fault })
            }
        };
        self.tell();
        match look {
            Ok(Look::Held) => self.times.renew,
            Ok(Look::Theirs(rest)) => rest.min(self.times.lasts / LOOKS),
            Ok(Look::Contested) => self.times.retry,
            Err(error) => {
                tracing::warn!(%error, "the lease could not be claimed");
                self.times.retry
            }
        }
    }

    /// One line when leadership begins, and one when it has run out, as the next turn sees it.
    fn tell(&self) {
        let leads = self.leads();
        if std::mem::replace(&mut self.lock().told, leads) != leads {
            tracing::info!(instance = %self.me, leads, "leadership");
        }
    }

    async fn claim(&self) -> Result<Look, KubernetesError> {
        // Taken out: whatever ends this look early leaves nothing that may be out of date.
        let written = self.lock().written.take();
        if let Some(written) = written {
            // Nobody is known to have written since: no need to read first.
            match self.try_claim(Some(written)).await? {
                Look::Contested => {}
                held => return Ok(held),
            }
        }
        let current = self.kubernetes.lease(&self.namespace, &self.name).await?;
        self.try_claim(current).await
    }

    async fn try_claim(&self, current: Option<Lease>) -> Result<Look, KubernetesError> {
        let now = self.clock.monotonic();
        if self.lock().released {
            return Ok(Look::Theirs(self.times.lasts));
        }
        let version = current.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        let unchanged_for = self.unchanged_for(version, now);
        let spec = current.as_ref().and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let lasts = spec
            .lease_duration_seconds
            .and_then(|s| u64::try_from(s).ok())
            .map_or(self.times.lasts, Duration::from_secs);
        if evaluate(spec.holder_identity.as_deref(), &self.me, unchanged_for, lasts) == Verdict::Wait {
            return Ok(Look::Theirs(lasts.saturating_sub(unchanged_for)));
        }
        let wanted = self.record(current, &spec, Some(self.me.clone()));
        match self.kubernetes.write_lease(&wanted).await {
            Ok(written) => {
                tracing::debug!(instance = %self.me, "lease written");
                self.hold(now, written);
                Ok(Look::Held)
            }
            Err(KubernetesError { fault: KubernetesFault::Conflict, .. }) => Ok(Look::Contested),
            Err(error) => Err(error),
        }
    }

    /// The lease was written, by a call that was sent at `sent`.
    fn hold(&self, sent: Duration, written: Lease) {
        let mut state = self.lock();
        if state.released {
            return;
        }
        let interrupted = state.until.is_none_or(|until| self.clock.monotonic() >= until);
        if interrupted {
            state.since = Some(self.clock.steady());
        }
        state.until = Some(sent + self.times.lasts - self.times.margin);
        state.written = Some(written);
        drop(state);
        if interrupted {
            self.begun.send_replace(());
        }
    }

    fn unchanged_for(&self, version: Option<String>, now: Duration) -> Duration {
        let mut state = self.lock();
        match &state.seen {
            Some((seen, since)) if *seen == version => now.saturating_sub(*since),
            _ => {
                state.seen = Some((version, now));
                Duration::ZERO
            }
        }
    }

    fn record(&self, current: Option<Lease>, spec: &LeaseSpec, holder: Option<String>) -> Lease {
        let now = MicroTime(self.clock.now());
        let changes_hands = spec.holder_identity != holder;
        let metadata = current.map(|lease| lease.metadata).unwrap_or_else(|| ObjectMeta {
            namespace: Some(self.namespace.clone()),
            name: Some(self.name.clone()),
            ..ObjectMeta::default()
        });
        Lease {
            metadata: ObjectMeta { managed_fields: None, ..metadata },
            spec: Some(LeaseSpec {
                holder_identity: holder,
                lease_duration_seconds: i32::try_from(self.times.lasts.as_secs()).ok(),
                acquire_time: if changes_hands { Some(now.clone()) } else { spec.acquire_time.clone() },
                renew_time: Some(now),
                lease_transitions: Some(spec.lease_transitions.unwrap_or(0) + i32::from(changes_hands)),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Lets those who wait for [`Leadership::ending`] go on. Permits are still given: what is begun needs them.
    pub fn end(&self) {
        self.ending.send_replace(true);
    }

    /// Gives the lease back, so that another replica takes over at once. No permit is given afterwards.
    pub async fn release(&self) -> Result<(), KubernetesError> {
        let held = {
            let mut state = self.lock();
            state.released = true;
            state.written = None;
            state.until.take().is_some()
        };
        if !held {
            return Ok(());
        }
        match self.try_release().await {
            // A renewal was under way; there is no other.
            Err(KubernetesError { fault: KubernetesFault::Conflict, .. }) => self.try_release().await,
            result => result,
        }
    }

    async fn try_release(&self) -> Result<(), KubernetesError> {
        let Some(current) = self.kubernetes.lease(&self.namespace, &self.name).await? else { return Ok(()) };
        let spec = current.spec.clone().unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(&self.me) {
            return Ok(());
        }
        let freed = self.record(Some(current), &spec, None);
        self.kubernetes.write_lease(&freed).await?;
        tracing::info!(instance = %self.me, "lease given back");
        Ok(())
    }

    /// Namespace and name of the record.
    pub fn record_name(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }

    /// Comes back when this process leads; at once where it does.
    pub async fn leading(&self) {
        let mut begun = self.begun.subscribe();
        while !self.leads() {
            // It cannot be closed: the sender is here.
            let _ = begun.changed().await;
        }
    }

    /// True while a permit would be given.
    pub fn leads(&self) -> bool {
        self.permit().is_some()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Leadership for LeaseHolder {
    fn since(&self) -> jiff::Timestamp {
        self.lock().since.unwrap_or_else(|| self.clock.steady())
    }

    fn permit(&self) -> Option<WritePermit> {
        let until = self.lock().until?;
        (self.clock.monotonic() < until).then(|| WritePermit::until(self.clock.clone(), until))
    }

    async fn ending(&self) {
        // It cannot be closed: the sender is here.
        let _ = self.ending.subscribe().wait_for(|ending| *ending).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_lease_and_ones_own_are_claimed_and_anothers_only_when_it_is_over() {
        let lasts = Duration::from_secs(15);
        assert_eq!(evaluate(None, "me", Duration::ZERO, lasts), Verdict::Claim);
        assert_eq!(evaluate(Some(""), "me", Duration::ZERO, lasts), Verdict::Claim);
        assert_eq!(evaluate(Some("me"), "me", Duration::ZERO, lasts), Verdict::Claim);
        assert_eq!(evaluate(Some("other"), "me", lasts - Duration::from_millis(1), lasts), Verdict::Wait);
        assert_eq!(evaluate(Some("other"), "me", lasts, lasts), Verdict::Claim);
    }
}
