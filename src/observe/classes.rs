//! Classes, where an object has to do with one.

use std::collections::BTreeMap;

use super::Observer;
use crate::{api::KafkaExternalAccess, kubernetes::KubernetesError, plan::class::Classes};

impl Observer {
    /// The classes that decide about this object; none are read for one that has to do with none.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn classes(&self, object: &KafkaExternalAccess) -> Result<Classes, KubernetesError> {
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        let operator_namespace = self.settings.operator_namespace.clone();
        let wanted = object.spec.class();
        // An object beside the operator may share its Secret with a class.
        if wanted.is_none() && namespace != operator_namespace {
            return Ok(Classes { operator_namespace, ..Classes::default() });
        }
        let all = self.kubernetes.classes().await?;
        let own = all.iter().find(|class| class.metadata.name.as_deref() == wanted);
        let labels = match own.and_then(|class| class.spec.namespaces.selector.as_ref()) {
            Some(_) => self.kubernetes.namespace_labels(namespace).await?,
            None => BTreeMap::new(),
        };
        Ok(Classes { all, operator_namespace, labels })
    }

    /// Until it is dropped nobody else of this process allocates within a limit that several objects share.
    pub async fn one_at_a_time(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.allocating.lock().await
    }
}
