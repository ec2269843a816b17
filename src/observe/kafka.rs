//! The brokers, each asked at its own pod's address, and the probe through each address outside.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use super::Observer;
use crate::{
    api::{KafkaClient, SaslMechanism as SpecMechanism, SecurityProtocol, Vantage},
    domain::{AccessKey, Ordinal},
    kafka::{
        BrokerView, KafkaError, KafkaFault, ListenerSetting, Sasl, SaslMechanism, SecretText, Security, Step,
        Target, Tls,
        sighting::{self, Sighting},
    },
    kubernetes::KubernetesError,
    listeners::text::Listeners,
    plan::{
        Plan,
        desired::Desired,
        observed::{KafkaState, Observed, PodView, ProbeResult},
    },
    reach::never_a_host,
};

/// Last probe of each broker, and when it was made.
pub type Probes = BTreeMap<Ordinal, (Duration, ProbeResult)>;

/// When each machine made the last report that was seen.
pub type Reports = BTreeMap<String, Timestamp>;

/// What probes say.
struct Probed {
    /// The last of each broker.
    last: BTreeMap<Ordinal, ProbeResult>,
    new: Vec<(Ordinal, ProbeResult)>,
    due_in: Option<Duration>,
}

/// The port of the internal listener: from the pod template, else from `bootstrapServers`.
pub fn internal_port(desired: &Desired, observed: &Observed) -> Option<u16> {
    let found = observed.stateful_set.as_ref().and_then(|set| set.internal_port);
    found.or_else(|| desired.bootstrap.first().map(|endpoint| endpoint.port))
}

/// Authorities in PEM, and the operator's own chain and key where the brokers ask for them.
#[derive(Clone)]
struct TlsMaterial {
    ca: Arc<str>,
    identity: Option<(Arc<str>, Arc<SecretText>)>,
}

/// The material of `spec.kafka.client`.
#[derive(Clone, Default)]
pub struct ClientMaterial {
    tls: Option<TlsMaterial>,
    sasl: Option<Sasl>,
}

/// Protection of the listener for clients outside.
pub fn external_security(
    material: &ClientMaterial,
    protocol: SecurityProtocol,
    server_name: &str,
) -> Security {
    let tls = matches!(protocol, SecurityProtocol::Ssl | SecurityProtocol::SaslSsl);
    let sasl = matches!(protocol, SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl);
    Security {
        tls: tls.then(|| material.tls(server_name)),
        sasl: if sasl { material.sasl.clone() } else { None },
    }
}

impl ClientMaterial {
    fn tls(&self, server_name: &str) -> Tls {
        let known = self.tls.clone();
        let ca_pem = known.as_ref().map_or_else(|| Arc::from(""), |tls| tls.ca.clone());
        Tls { server_name: server_name.to_owned(), ca_pem, identity_pem: known.and_then(|tls| tls.identity) }
    }

    /// Protection of the internal listener of a pod.
    pub fn internal(&self, server_name: &str) -> Security {
        Security { tls: self.tls.as_ref().map(|_| self.tls(server_name)), sasl: self.sasl.clone() }
    }
}

impl Observer {
    /// Asks every broker, and probes every address that `plan` holds for one.
    pub async fn ask_kafka(
        &self,
        client: Option<&KafkaClient>,
        desired: &Desired,
        observed: &mut Observed,
        plan: &Plan,
    ) -> Result<(), KubernetesError> {
        let material = match self.material(client, &desired.key.namespace).await? {
            Ok(material) => material,
            Err(fault) => {
                let failed = |ordinal: &Ordinal| {
                    (*ordinal, Err(KafkaError { step: Step::Sasl, fault: fault.clone() }))
                };
                let internal = observed.pods.keys().map(failed).collect();
                observed.kafka = Some(KafkaState { internal, ..KafkaState::default() });
                return Ok(());
            }
        };
        let asked = observed.pods.iter().filter(|(_, pod)| !pod.terminating).filter_map(|(ordinal, pod)| {
            let target = self.internal_target(desired, observed, &material, *ordinal, pod)?;
            Some(async move { (*ordinal, self.brokers.describe(&target).await) })
        });
        let mut internal: BTreeMap<Ordinal, Result<BrokerView, KafkaError>> =
            join_all(asked).await.into_iter().collect();
        if internal_port(desired, observed).is_none() {
            let text = "the internal listener's port is not in the pod template; set kafka.bootstrapServers"
                .to_owned();
            let unknown = |o: &Ordinal| {
                (*o, Err(KafkaError { step: Step::Tcp, fault: KafkaFault::Network(text.clone()) }))
            };
            internal = observed.pods.keys().map(unknown).collect();
        }
        let port_busy = self.busy_ports(desired, observed, &internal).await;
        let probed = match desired.probe_from {
            Vantage::Operator => self.probe(desired, observed, plan, &internal, &material).await,
            Vantage::Reports => self.sightings_of(desired, plan, &internal).await?,
        };
        observed.kafka = Some(KafkaState {
            internal,
            port_busy,
            probes: probed.last,
            probed: probed.new,
            probes_due_in: probed.due_in,
            cluster: None,
        });
        Ok(())
    }

    /// Asks one broker what a restart would cost. What it cannot tell is the answer as well.
    pub async fn ask_cluster(
        &self,
        client: Option<&KafkaClient>,
        desired: &Desired,
        observed: &mut Observed,
    ) -> Result<(), KubernetesError> {
        let Some(kafka) = &observed.kafka else { return Ok(()) };
        let answering = kafka.internal.iter().find(|(_, view)| view.is_ok()).map(|(ordinal, _)| *ordinal);
        let material = self.material(client, &desired.key.namespace).await?;
        let target = answering.zip(material.ok()).and_then(|(ordinal, material)| {
            let pod = observed.pods.get(&ordinal)?;
            self.internal_target(desired, observed, &material, ordinal, pod)
        });
        let Some(target) = target else { return Ok(()) };
        let cluster = self.brokers.cluster(&target).await;
        if let Some(kafka) = &mut observed.kafka {
            kafka.cluster = Some(cluster);
        }
        Ok(())
    }

    /// The internal listener of one pod, by the pod's address: names need not resolve here.
    pub fn internal_target(
        &self,
        desired: &Desired,
        observed: &Observed,
        material: &ClientMaterial,
        ordinal: Ordinal,
        pod: &PodView,
    ) -> Option<Target> {
        let port = internal_port(desired, observed)?;
        let service = observed.stateful_set.as_ref().map(|set| set.service.clone()).unwrap_or_default();
        let name = format!("{}-{ordinal}.{service}.{}.svc", desired.stateful_set, desired.key.namespace);
        Some(Target {
            at: SocketAddr::from((pod.ip?, port)),
            security: material.internal(&name),
            step_timeout: desired.probe_timeout,
        })
    }

    /// The Secrets of `spec.kafka.client`; the inner error says what is wrong with them.
    pub async fn material(
        &self,
        client: Option<&KafkaClient>,
        namespace: &str,
    ) -> Result<Result<ClientMaterial, KafkaFault>, KubernetesError> {
        let mut material = ClientMaterial::default();
        if let Some(tls) = client.and_then(|client| client.tls.as_ref()) {
            let secret = self.kubernetes.secret(namespace, &tls.secret_ref.name).await?;
            let Some(ca) = value(secret.as_ref(), "ca.crt") else {
                return Ok(Err(KafkaFault::Certificate(format!(
                    "Secret {} has no ca.crt",
                    tls.secret_ref.name
                ))));
            };
            let identity = value(secret.as_ref(), "tls.crt").zip(value(secret.as_ref(), "tls.key"));
            let identity = identity.map(|(chain, key)| (Arc::from(chain), Arc::new(SecretText::new(key))));
            material.tls = Some(TlsMaterial { ca: Arc::from(ca), identity });
        }
        if let Some(sasl) = client.and_then(|client| client.sasl.as_ref()) {
            let secret = self.kubernetes.secret(namespace, &sasl.secret_ref.name).await?;
            let pair = value(secret.as_ref(), "username").zip(value(secret.as_ref(), "password"));
            let Some((username, password)) = pair else {
                let text = format!("Secret {} has no username and password", sasl.secret_ref.name);
                return Ok(Err(KafkaFault::Authentication(text)));
            };
            let mechanism = match sasl.mechanism {
                SpecMechanism::Plain => SaslMechanism::Plain,
                SpecMechanism::ScramSha256 => SaslMechanism::ScramSha256,
                SpecMechanism::ScramSha512 => SaslMechanism::ScramSha512,
            };
            material.sasl = Some(Sasl { mechanism, username, password: SecretText::new(password) });
        }
        Ok(Ok(material))
    }

    /// Whether something accepts TCP on the listener's port although the broker has no such listener.
    async fn busy_ports(
        &self,
        desired: &Desired,
        observed: &Observed,
        internal: &BTreeMap<Ordinal, Result<BrokerView, KafkaError>>,
    ) -> BTreeMap<Ordinal, bool> {
        let Some(listener) = &desired.listener else { return BTreeMap::new() };
        let open = internal.iter().filter_map(|(ordinal, view)| {
            let ip = observed.pods.get(ordinal)?.ip?;
            let missing = !has_listener(view.as_ref().ok()?, &listener.name, ListenerSetting::Listeners);
            let target = Target {
                at: (ip, listener.port).into(),
                security: Security::default(),
                step_timeout: desired.probe_timeout,
            };
            missing.then_some(async move { (*ordinal, self.brokers.accepts(&target).await) })
        });
        join_all(open).await.into_iter().collect()
    }

    async fn probe(
        &self,
        desired: &Desired,
        observed: &Observed,
        plan: &Plan,
        internal: &BTreeMap<Ordinal, Result<BrokerView, KafkaError>>,
        material: &ClientMaterial,
    ) -> Probed {
        let mut known = self
            .probes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&desired.key)
            .unwrap_or_default();
        let now = self.clock.monotonic();
        let targets = plan.addresses.iter().filter_map(|(ordinal, held)| {
            held.in_use().then_some(())?;
            let view = internal.get(ordinal)?.as_ref().ok();
            let (port, security) = match &desired.listener {
                None => (internal_port(desired, observed)?, material.internal(&internal_name(view)?)),
                Some(listener) => {
                    let name = advertised_host(view?, &listener.name)?;
                    (listener.port, external_security(material, listener.protocol, &name))
                }
            };
            let fresh = known.get(ordinal).is_some_and(|(at, result)| {
                result.through == held.address
                    && now.saturating_sub(*at) < desired.probe_interval.mul_f64(0.9)
            });
            let target =
                Target { at: (held.address, port).into(), security, step_timeout: desired.probe_timeout };
            // An address from a spec must not turn the probe against this machine or its metadata service.
            never_a_host(held.address.into()).is_none().then_some((*ordinal, held.address, target, fresh))
        });
        let targets: Vec<_> = targets.collect();
        let targeted: BTreeSet<Ordinal> = targets.iter().map(|(ordinal, ..)| *ordinal).collect();
        // Their tables are compared, and one that is half a minute older than another knows less: all of them or none.
        let due = targets.iter().any(|(.., fresh)| !fresh);
        let probes = targets.into_iter().filter(|_| due).map(|(ordinal, address, target, _)| async move {
            let report = self.brokers.probe(&target).await;
            (ordinal, ProbeResult::new(report, address, self.vantage.clone()))
        });
        let new = join_all(probes).await;
        for (ordinal, result) in &new {
            known.insert(*ordinal, (self.clock.monotonic(), result.clone()));
        }
        // What a broker said that is gone since is no news of the others.
        known.retain(|ordinal, (_, result)| {
            let held = plan.addresses.get(ordinal);
            held.is_some_and(|held| held.in_use() && held.address == result.through)
        });
        let last = known.iter().map(|(ordinal, (_, result))| (*ordinal, result.clone())).collect();
        let again = known.iter().filter(|(ordinal, _)| targeted.contains(ordinal));
        let due = again.map(|(_, (at, _))| *at + desired.probe_interval).min();
        let due_in = due.map(|due| due.saturating_sub(self.clock.monotonic()));
        self.probes.lock().unwrap_or_else(PoisonError::into_inner).insert(desired.key.clone(), known);
        Probed { last, new, due_in }
    }
}

impl Observer {
    /// What clients' machines have seen of each broker; where they differ, the one that sees a failure.
    async fn sightings_of(
        &self,
        desired: &Desired,
        plan: &Plan,
        internal: &BTreeMap<Ordinal, Result<BrokerView, KafkaError>>,
    ) -> Result<Probed, KubernetesError> {
        let name = sighting::config_map(&desired.key.name);
        let map = self.kubernetes.config_map(&desired.key.namespace, &name).await?;
        let told = sighting::fresh(&map.and_then(|map| map.data).unwrap_or_default(), self.clock.now());
        let before = self.reports(&desired.key, &told);
        let (mut worst, mut news) = (BTreeMap::new(), Vec::new());
        for (ordinal, held) in plan.addresses.iter().filter(|(_, held)| held.in_use()) {
            let Some(Ok(view)) = internal.get(ordinal) else { continue };
            let results: Vec<ProbeResult> = told
                .iter()
                .map(|sighting| ProbeResult {
                    outcome: sighting.of(view.node),
                    through: held.address,
                    from: sighting.from.clone(),
                    course: sighting.course(view.node),
                })
                .collect();
            let is_new = |sighting: &Sighting| before.get(&sighting.from) != Some(&sighting.at);
            let new = told.iter().zip(&results).filter(|(sighting, _)| is_new(sighting));
            news.extend(new.map(|(_, result)| (*ordinal, result.clone())));
            // The first of the worst.
            worst.extend(
                results
                    .into_iter()
                    .min_by_key(|result| result.outcome.is_ok())
                    .map(|result| (*ordinal, result)),
            );
        }
        Ok(Probed { last: worst, new: news, due_in: None })
    }

    /// Keeps when each machine has reported; what was known before.
    fn reports(&self, key: &AccessKey, told: &[Sighting]) -> Reports {
        let now = told.iter().map(|sighting| (sighting.from.clone(), sighting.at)).collect();
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.insert(key.clone(), now).unwrap_or_default()
    }
}

fn internal_name(view: Option<&BrokerView>) -> Option<String> {
    let view = view?;
    view.advertised.get(&view.node).map(|endpoint| endpoint.host.clone())
}

/// The value in force of a setting that lists listeners has one of that name.
fn has_listener(view: &BrokerView, name: &str, setting: ListenerSetting) -> bool {
    let text = view.setting(setting).effective.unwrap_or_default();
    Listeners::parse(&text).unwrap_or_default().get(name).is_some()
}

/// The host that clients of the listener are told, which is what the certificate must cover.
fn advertised_host(view: &BrokerView, listener: &str) -> Option<String> {
    let advertised = view.setting(ListenerSetting::AdvertisedListeners).effective.unwrap_or_default();
    Some(Listeners::parse(&advertised).unwrap_or_default().get(listener)?.host.clone())
}

fn value(secret: Option<&Secret>, key: &str) -> Option<String> {
    let bytes = secret?.data.as_ref()?.get(key)?;
    String::from_utf8(bytes.0.clone()).ok()
}
