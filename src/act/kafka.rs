//! Writes to Kafka: the stored listener settings of one broker.

use super::{Actor, Round};
use crate::{
    domain::{Endpoint, NodeId, Ordinal},
    kafka::{SettingChange, Target},
    listeners::{
        apply::{self, ApplyError, Subject},
        dynamic,
    },
    observe::external_security,
    plan::{failure::Cause, observed::PodView},
};

impl Actor {
    pub(super) async fn advertise(
        &self,
        round: &Round<'_>,
        ordinal: Ordinal,
        node: NodeId,
        endpoint: &Endpoint,
        changes: &[SettingChange],
    ) -> Result<(), Cause> {
        let Some(listener) = &round.desired.listener else { return Ok(()) };
        let (pod, internal) = self.internal(round, ordinal).await?;
        let material = self.material(round).await?;
        let ip = pod.ip.ok_or(Cause::LookAgain("the pod has no address any more"))?;
        let external = Target {
            at: (ip, listener.port).into(),
            security: external_security(&material, listener.protocol, &endpoint.host),
            ..internal.clone()
        };
        let subject = self.subject(node, &internal);
        apply::apply(&subject, &external, endpoint, changes).await.map_err(cause)?;
        tracing::info!(key = %round.desired.key, %ordinal, %node, %endpoint, "advertised");
        Ok(())
    }

    pub(super) async fn withdraw(
        &self,
        round: &Round<'_>,
        ordinal: Ordinal,
        node: NodeId,
        changes: &[SettingChange],
    ) -> Result<(), Cause> {
        let (_, internal) = self.internal(round, ordinal).await?;
        let recorded = round.observed.own.status.brokers.iter().find(|broker| broker.ordinal == ordinal.0);
        let endpoint: Option<Endpoint> = recorded.and_then(|broker| broker.advertised.as_ref()?.parse().ok());
        let view =
            round.observed.kafka.as_ref().and_then(|kafka| kafka.internal.get(&ordinal)?.as_ref().ok());
        let endpoint = endpoint.filter(|endpoint| !view.is_some_and(|view| dynamic::in_file(view, endpoint)));
        apply::remove(&self.subject(node, &internal), endpoint.as_ref(), changes).await.map_err(cause)?;
        tracing::info!(key = %round.desired.key, %ordinal, %node, "withdrawn");
        Ok(())
    }

    fn subject<'a>(&'a self, node: NodeId, internal: &'a Target) -> Subject<'a> {
        Subject {
            brokers: &*self.brokers,
            clock: &*self.clock,
            leadership: &*self.leadership,
            node,
            internal,
        }
    }

    async fn material(&self, round: &Round<'_>) -> Result<crate::observe::ClientMaterial, Cause> {
        let client = round.object.spec.kafka.client.as_ref();
        let material = self.observer.material(client, &round.desired.key.namespace).await?;
        material.map_err(|_| Cause::LookAgain("the Secrets of kafka.client changed"))
    }

    async fn internal<'a>(
        &self,
        round: &Round<'a>,
        ordinal: Ordinal,
    ) -> Result<(&'a PodView, Target), Cause> {
        let material = self.material(round).await?;
        let pod = round.observed.pods.get(&ordinal).ok_or(Cause::LookAgain("the pod is gone"))?;
        let target = self.observer.internal_target(round.desired, round.observed, &material, ordinal, pod);
        Ok((pod, target.ok_or(Cause::LookAgain("the pod has no address any more"))?))
    }
}

fn cause(error: ApplyError) -> Cause {
    match error {
        ApplyError::Kafka(error) => Cause::Kafka(error),
        ApplyError::NotApplied(_) | ApplyError::NotWithdrawn(_) | ApplyError::StillStored { .. } => {
            Cause::ListenerNotApplied(error.to_string())
        }
        ApplyError::NotLeading => Cause::NotLeading,
    }
}
