//! One reconcile: observe -> plan -> act, until nothing is left to do now -> report.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use kube::ResourceExt;
use tracing::Instrument;

use super::queue::Outcome;
use crate::{
    act::{Actor, Round},
    api::{KafkaExternalAccess, KafkaExternalAccessStatus, conditions::ConditionType},
    domain::{AccessKey, ErrorClass, Uid},
    kubernetes::{Kubernetes, KubernetesError, KubernetesFault},
    observe::{Freshness, Observer},
    plan::{
        Action, Plan,
        desired::{Desired, desired},
        failure::{Cause, Failure},
        memory::Memory,
        observed::{CloudState, Observed},
        plan, status, usage, words,
    },
    report::{
        events::{self, Note},
        objects::Objects,
    },
    seams::{Clock, Leadership, Random},
};

/// More rounds than any road needs; then the queue brings the key back.
const MOST_ROUNDS: usize = 10;
/// What was seen longer ago is looked at again before anything more is done about it.
const ACT_WITHIN: Duration = Duration::from_secs(10);

/// Reconciles objects by key; the queue sees to it that one key runs once at a time.
pub struct Reconciler {
    /// All reading.
    pub observer: Arc<Observer>,
    /// All writing, the status aside.
    pub actor: Actor,
    /// The API server, for object and status.
    pub kubernetes: Arc<dyn Kubernetes>,
    /// The right to write.
    pub leadership: Arc<dyn Leadership>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for jitter.
    pub random: Arc<dyn Random>,
    /// Name of this replica, in events.
    pub instance: String,
    /// What is remembered of each object.
    pub memories: Mutex<BTreeMap<AccessKey, (Uid, Memory)>>,
    /// Warnings that were told, so that they are told once.
    pub told: Mutex<BTreeMap<AccessKey, (Uid, BTreeSet<String>)>>,
    /// What scrapes show of each object.
    pub objects: Objects,
    /// Makes names of events unique.
    pub serial: AtomicU64,
}

/// What the rounds of one reconcile came to.
struct Result {
    observed: Observed,
    plan: Plan,
    failures: Vec<Failure>,
    done: Vec<Note>,
}

/// Where the rounds of one reconcile ended.
enum Road {
    /// Nothing is left to do now.
    Reached(Box<(KafkaExternalAccess, Result)>),
    /// The object is gone.
    Gone,
    /// The process ends, with this done until then.
    Ending(Vec<Note>),
}

impl Reconciler {
    /// One reconcile. Errors of the API server end it; everything else is reported in the status.
    pub async fn reconcile(&self, key: &AccessKey) -> Outcome {
        match self.try_reconcile(key).instrument(tracing::info_span!("reconcile", %key)).await {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::warn!(%key, %error, "reconcile ended early");
                Outcome { look_again: None, failed: true }
            }
        }
    }

    async fn try_reconcile(&self, key: &AccessKey) -> std::result::Result<Outcome, KubernetesError> {
        let Some(object) = self.kubernetes.access(key).await? else {
            self.forget(key);
            return Ok(Outcome::default());
        };
        let classes = self.observer.classes(&object).await?;
        let desired = match desired(&object, &classes) {
            Ok(desired) => desired,
            Err(problem) => {
                let status = status::rejected(&object, &problem, self.clock.now());
                self.objects.rejected(key, &status);
                self.report(&object, &status, Vec::new()).await?;
                return Ok(Outcome::default());
            }
        };
        let mut memory = self.memory_of(&desired);
        let rounds = self.rounds(object.clone(), &desired, &mut memory).await;
        let now = self.clock.now();
        let result = match rounds {
            Ok(result) => result,
            Err(error) => {
                self.remember(&desired, memory);
                return Err(error);
            }
        };
        let (object, result) = match result {
            Road::Reached(reached) => *reached,
            Road::Gone => {
                self.forget(key);
                return Ok(Outcome::default());
            }
            Road::Ending(done) => {
                self.tell(&object, done).await;
                return Ok(Outcome::default());
            }
        };
        let status = status::status(&desired, &result.observed, &memory, &result.plan, &result.failures, now);
        self.objects.show(key, &status, result.plan.restarts, usage::counters(&memory.usage));
        self.remember(&desired, memory);
        let mut notes = result.done;
        notes.extend(self.untold(&desired, events::warnings(&result.plan)));
        self.report(&object, &status, notes).await?;
        let again = |cause: &Cause| cause.class() != ErrorClass::Waiting || *cause == Cause::NotLeading;
        let unseen = match &result.observed.cloud {
            CloudState::Failed(error) => Some(error),
            _ => None,
        };
        if let Some(error) = unseen {
            tracing::warn!(%key, %error, "the cloud was not seen");
        }
        let failed = unseen.is_some() || result.failures.iter().any(|failure| again(&failure.cause));
        let outstanding = result.plan.outstanding.len();
        tracing::debug!(%key, outstanding, failures = result.failures.len(), look_again = ?result.plan.look_again, "reconciled");
        Ok(Outcome { look_again: result.plan.look_again, failed })
    }

    /// Observe, plan and act until a plan has nothing to do now, or the process ends: then an action under way is
    /// finished, and reads are not.
    async fn rounds(
        &self,
        mut object: KafkaExternalAccess,
        desired: &Desired,
        memory: &mut Memory,
    ) -> std::result::Result<Road, KubernetesError> {
        let mut failures: Vec<Failure> = Vec::new();
        let mut doubted: Vec<Action> = Vec::new();
        let mut done = Vec::new();
        // Where nothing was left for the cloud, a look at what all objects of the credential share says whether that is still so.
        let mut wanted = if memory.settled { Freshness::Drift } else { Freshness::Now };
        for round in 0.. {
            let (observed, plan, freshness) = tokio::select! {
                biased;
                () = self.leadership.ending() => return Ok(Road::Ending(done)),
                seen = self.observe_and_plan(&object, desired, memory, &failures, wanted) => seen?,
            };
            memory.settled = failures.is_empty() && memory.may_rest(&plan);
            wanted = Freshness::Now;
            if freshness == Freshness::Drift && !memory.settled {
                continue;
            }
            let due = due(&plan, &failures);
            if due.is_empty() || round == MOST_ROUNDS {
                return Ok(reached(object, Result { observed, plan, failures, done }));
            }
            let mut stop = false;
            // What was measured before a change says nothing about the time after it.
            self.observer.forget_probes(&desired.key);
            let seen_at = self.clock.monotonic();
            for action in due {
                let old = self.clock.monotonic().saturating_sub(seen_at) > ACT_WITHIN;
                if old || self.leadership.ending().now_or_never().is_some() {
                    break;
                }
                let context = Round { object: &object, desired, observed: &observed };
                let step = words::action(&action, desired);
                tracing::info!(key = %desired.key, step, "decided");
                let span = tracing::info_span!("write", step);
                let result = self.actor.carry_out(&action, &context).instrument(span).await;
                memory.record(&action, &result, self.clock.steady(), self.random.fraction());
                match result {
                    Ok(()) => done.extend(events::done(&action, desired)),
                    // Nothing is wrong: the next round sees the world as it is now. The second time it is a failure,
                    // else a reply that never changes would be asked for in every round.
                    Err(cause) if cause.wants_another_look() && !among(&doubted, &action) => {
                        tracing::info!(key = %desired.key, step, %cause, "looks again");
                        doubted.push(action);
                        break;
                    }
                    Err(cause) => {
                        tracing::warn!(key = %desired.key, step, error = %cause, "failed");
                        // I4: nothing is written elsewhere before the finalizers stand, and the object stays while the
                        // Secret is held for it.
                        let unheld =
                            matches!(action, Action::HoldObject | Action::HoldSecret | Action::LetSecretGo);
                        stop |= unheld || cause == Cause::NotLeading;
                        let holds_the_rest = matches!(action, Action::Allocate { .. });
                        failures.push(Failure { action, cause });
                        if holds_the_rest || stop {
                            break;
                        }
                    }
                }
            }
            if stop {
                return Ok(reached(object, Result { observed, plan, failures, done }));
            }
            match self.kubernetes.access(&desired.key).await? {
                Some(fresh) if fresh.metadata.uid == object.metadata.uid => object = fresh,
                _ => return Ok(Road::Gone),
            }
            // An edit meanwhile: the queue has it, and the new spec gets a road of its own.
            if object.metadata.generation.unwrap_or_default() != observed.own.generation {
                return Ok(reached(object, Result { observed, plan, failures, done }));
            }
        }
        Ok(Road::Gone)
    }

    async fn observe_and_plan(
        &self,
        object: &KafkaExternalAccess,
        desired: &Desired,
        memory: &mut Memory,
        failures: &[Failure],
        freshness: Freshness,
    ) -> std::result::Result<(Observed, Plan, Freshness), KubernetesError> {
        let (mut observed, freshness) = self.observer.observe(object, desired, freshness).await?;
        memory.see(desired, &observed, self.clock.steady());
        let mut decided = plan(desired, &observed, memory, self.clock.steady());
        // What failed for one broker holds no other broker up.
        if decided.ask_kafka && due(&decided, failures).is_empty() {
            let client = object.spec.kafka.client.as_ref();
            self.observer.ask_kafka(client, desired, &mut observed, &decided).await?;
            decided = plan(desired, &observed, memory, self.clock.steady());
            if decided.ask_cluster && due(&decided, failures).is_empty() {
                self.observer.ask_cluster(client, desired, &mut observed).await?;
                decided = plan(desired, &observed, memory, self.clock.steady());
            }
            memory.see_probes(&decided, &observed);
            self.objects.probed(&desired.key, desired.probe_from, &decided, &observed);
        }
        Ok((observed, decided, freshness))
    }

    /// Writes the status when it differs from the stored one, and tells what changed. What was done is told all the same
    /// when the status cannot be written: nobody would tell it later.
    async fn report(
        &self,
        object: &KafkaExternalAccess,
        status: &KafkaExternalAccessStatus,
        mut notes: Vec<Note>,
    ) -> std::result::Result<(), KubernetesError> {
        let before = object.status.clone().unwrap_or_default();
        let mut written = Ok(true);
        if *status != before {
            let span = tracing::info_span!("write", step = "status");
            written = self.write_status(object, status).instrument(span).await;
            match &written {
                Ok(true) => {
                    tell_status(object, status);
                    notes.extend(events::changes(&before, status));
                }
                Ok(false) => return Ok(()),
                Err(_) => {}
            }
        }
        self.tell(object, notes).await;
        written.map(drop)
    }

    /// Writes the status on the version that was read. An edit meanwhile does not keep it from being told: what it
    /// records may be known from nowhere else. A newer status does. False: it is nobody's any more, or not ours to write.
    async fn write_status(
        &self,
        object: &KafkaExternalAccess,
        status: &KafkaExternalAccessStatus,
    ) -> std::result::Result<bool, KubernetesError> {
        let Some(permit) = self.leadership.permit() else { return Ok(false) };
        let refusal = match self.kubernetes.write_status(permit, object, status).await {
            Ok(()) => return Ok(true),
            Err(KubernetesError { fault: KubernetesFault::NotFound, .. }) => return Ok(false),
            Err(refusal) if refusal.fault != KubernetesFault::Conflict => return Err(refusal),
            Err(refusal) => refusal,
        };
        let fresh = self.kubernetes.access(&key_of(object)).await?;
        let edited = |fresh: &KafkaExternalAccess| {
            fresh.metadata.uid == object.metadata.uid && fresh.status == object.status
        };
        let Some(fresh) = fresh.filter(edited) else { return Err(refusal) };
        let Some(permit) = self.leadership.permit() else { return Ok(false) };
        self.kubernetes.write_status(permit, &fresh, status).await.map(|()| true)
    }

    async fn tell(&self, object: &KafkaExternalAccess, notes: Vec<Note>) {
        for note in notes {
            let Some(permit) = self.leadership.permit() else { return };
            let serial = self.serial.fetch_add(1, Ordering::Relaxed);
            let event = events::event(object, &note, self.clock.now(), &self.instance, serial);
            // An event that cannot be written is no reason to fail: the status says the same.
            match self.kubernetes.publish(permit, &event).await {
                Ok(()) => tracing::debug!(key = %key_of(object), reason = note.reason, "event published"),
                Err(error) => tracing::debug!(%error, reason = note.reason, "an event was not published"),
            }
        }
    }

    fn untold(&self, desired: &Desired, notes: Vec<Note>) -> Vec<Note> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let nothing = || (desired.uid.clone(), BTreeSet::new());
        let (of, told) = told.entry(desired.key.clone()).or_insert_with(nothing);
        if *of != desired.uid {
            (*of, *told) = nothing();
        }
        notes.into_iter().filter(|note| told.insert(format!("{} {}", note.reason, note.text))).collect()
    }

    fn memory_of(&self, desired: &Desired) -> Memory {
        let since = self.leadership.since();
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        match memories.remove(&desired.key) {
            Some((uid, memory)) if uid == desired.uid && memory.started_at == since => memory,
            Some((uid, before)) if uid == desired.uid => before.led_again(since),
            _ => Memory::new(since),
        }
    }

    fn remember(&self, desired: &Desired, memory: Memory) {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        memories.insert(desired.key.clone(), (desired.uid.clone(), memory));
    }

    /// Keeps nothing of an object that is gone.
    pub fn forget(&self, key: &AccessKey) {
        self.objects.forget(key);
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.told.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.observer.forget(key);
    }
}

fn key_of(object: &KafkaExternalAccess) -> AccessKey {
    AccessKey { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
}

fn tell_status(object: &KafkaExternalAccess, status: &KafkaExternalAccessStatus) {
    let ready = status.condition(ConditionType::Ready);
    let (reason, text) = ready.map_or(("", ""), |ready| (ready.reason.as_str(), ready.message.as_str()));
    let outstanding = status.plan.len();
    tracing::info!(key = %key_of(object), reason, text, outstanding, "status written");
}

fn reached(object: KafkaExternalAccess, result: Result) -> Road {
    Road::Reached(Box::new((object, result)))
}

/// The actions that did not fail in this reconcile.
fn due(plan: &Plan, failures: &[Failure]) -> Vec<Action> {
    let failed = |action: &&Action| among(failures.iter().map(|failure| &failure.action), action);
    plan.actions.iter().filter(|action| !failed(action)).cloned().collect()
}

/// An action of the same kind for the same broker is among them, whatever was read meanwhile.
fn among<'a>(actions: impl IntoIterator<Item = &'a Action>, action: &Action) -> bool {
    let same = |other: &Action| {
        std::mem::discriminant(other) == std::mem::discriminant(action) && other.ordinal() == action.ordinal()
    };
    actions.into_iter().any(same)
}
