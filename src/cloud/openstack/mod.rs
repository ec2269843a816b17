//! OpenStack by hand: about ten calls, whose errors, limits and conditions the product depends on.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{CloudError, CloudFault, Clouds, Credential, FloatingIps};
use crate::{reach::Reach, seams::Clock};

mod auth;
pub mod clouds_yaml;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
#[cfg(test)]
mod hostile;
mod http;
mod neutron;
mod refusals;
#[cfg(test)]
mod replies;
mod routers;
mod wire;

pub use http::{CallObserver, CallOutcome};
pub use neutron::Neutron;

/// Clouds by credential: connection pool, token, rate limiter and resolved names are shared by everybody who uses the
/// same Secret version; a newer version replaces an older one.
pub struct OpenStackClouds {
    clock: Arc<dyn Clock>,
    observer: Arc<dyn CallObserver>,
    reach: Arc<Reach>,
    open: Mutex<BTreeMap<Place, (Credential, Arc<Neutron>)>>,
}

/// Namespace, Secret and entry of `clouds.yaml`.
type Place = (String, String, String);

impl OpenStackClouds {
    /// No cloud is opened yet.
    pub fn new(clock: Arc<dyn Clock>, observer: Arc<dyn CallObserver>) -> Self {
        Self { clock, observer, reach: Arc::default(), open: Mutex::default() }
    }

    /// Calls what `reach` allows instead of what is called by default.
    #[must_use]
    pub fn reaching(mut self, reach: Reach) -> Self {
        self.reach = Arc::new(reach);
        self
    }
}

impl Clouds for OpenStackClouds {
    fn open(&self, credential: &Credential) -> Result<Arc<dyn FloatingIps>, CloudError> {
        let key = (credential.namespace.clone(), credential.secret.clone(), credential.cloud_name.clone());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, cloud)) = open.get(&key)
            && known == credential
        {
            return Ok(cloud.clone());
        }
        let config = clouds_yaml::parse(credential).map_err(|problem| CloudError {
            operation: "read the credential",
            fault: CloudFault::Configuration(problem.to_string()),
        })?;
        let (reach, clock) = (self.reach.clone(), self.clock.clone());
        let cloud = Arc::new(Neutron::reaching(config, reach, clock, self.observer.clone())?);
        open.insert(key, (credential.clone(), cloud.clone()));
        Ok(cloud)
    }

    fn forget(&self, namespace: &str) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(of, _, _), _| of != namespace);
    }
}
