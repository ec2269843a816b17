//! [`Brokers`] over TCP.

use std::collections::BTreeMap;

use async_trait::async_trait;
use kafka_protocol::{
    messages::{
        DescribeClusterRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest, MetadataRequest,
        describe_configs_request::DescribeConfigsResource,
        describe_configs_response::DescribeConfigsResourceResult,
        incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig},
    },
    protocol::{Request, StrBytes},
};

use super::{
    BrokerView, Brokers, ClusterState, KafkaError, KafkaFault, ListenerSetting, MetadataMode, SettingChange,
    SettingValue, Step, Target, Validate,
    probe::Report,
    sasl,
    traffic::{Meter, Traffic, TrafficError},
    wire::{Connection, Times, connect},
};
use crate::{
    domain::{Endpoint, NodeId},
    seams::WritePermit,
};

/// `ConfigResource.Type.BROKER`.
const BROKER: i8 = 4;
/// `ConfigSource`: DYNAMIC_BROKER_CONFIG, STATIC_BROKER_CONFIG, DEFAULT_CONFIG (KIP-226).
const DYNAMIC: i8 = 2;
const STATIC: i8 = 4;
const DEFAULT: i8 = 5;
const ROLES: &str = "process.roles";
const MIGRATION: &str = "zookeeper.metadata.migration.enable";
/// CLUSTER_AUTHORIZATION_FAILED and TOPIC_AUTHORIZATION_FAILED.
const UNAUTHORIZED: [i16; 2] = [31, 29];
/// INVALID_CONFIG, INVALID_REQUEST, POLICY_VIOLATION.
const REJECTED: [i16; 3] = [40, 42, 44];

/// Real brokers: each call is one connection, closed afterwards.
#[derive(Debug, Default)]
pub struct TcpBrokers;

#[async_trait]
impl Brokers for TcpBrokers {
    #[tracing::instrument(name = "kafka", skip_all, fields(call = "describe", at = %target.at))]
    async fn describe(&self, target: &Target) -> Result<BrokerView, KafkaError> {
        let times = &mut Times::new();
        describe(&mut open(target, times).await?, times).await
    }

    #[tracing::instrument(name = "kafka", skip_all, fields(call = "probe", at = %target.at))]
    async fn probe(&self, target: &Target) -> Report {
        let mut passed = Times::new();
        let (outcome, certificate_ends) = match open(target, &mut passed).await {
            Ok(mut connection) => {
                let described = describe(&mut connection, &mut passed).await;
                let certificate_ends = described.as_ref().ok().and_then(|_| connection.certificate_ends());
                (described, certificate_ends)
            }
            Err(error) => (Err(error), None),
        };
        Report { passed, outcome, certificate_ends }
    }

    #[tracing::instrument(name = "kafka", skip_all, fields(call = "accepts", at = %target.at))]
    async fn accepts(&self, target: &Target) -> bool {
        connect(target, &mut Times::new()).await.is_ok()
    }

    #[tracing::instrument(name = "kafka", skip_all, fields(call = "cluster", at = %target.at))]
    async fn cluster(&self, target: &Target) -> Result<ClusterState, KafkaError> {
        let times = &mut Times::new();
        super::cluster::cluster(&mut open(target, times).await?, times).await
    }

    #[tracing::instrument(name = "kafka", skip_all, fields(call = "traffic"))]
    async fn traffic(&self, meter: &Meter) -> Result<Traffic, TrafficError> {
        super::traffic::read(meter).await
    }

    #[tracing::instrument(name = "kafka", skip_all, fields(call = "alter", at = %target.at))]
    async fn alter(
        &self,
        permit: WritePermit,
        target: &Target,
        node: NodeId,
        changes: &[SettingChange],
        validate: Validate,
    ) -> Result<(), KafkaError> {
        let mut connection = open(target, &mut Times::new()).await?;
        if !permit.holds() {
            let fault = KafkaFault::Network("the way to the broker took too long".into());
            return Err(KafkaError { step: Step::AlterConfigs, fault });
        }
        alter(&mut connection, node, changes, validate).await
    }
}

pub(super) async fn alter(
    connection: &mut Connection,
    node: NodeId,
    changes: &[SettingChange],
    validate: Validate,
) -> Result<(), KafkaError> {
    let configs = changes.iter().map(|change| match change {
        SettingChange::Set(setting, value) => {
            alterable(*setting, 0).with_value(Some(StrBytes::from_string(value.clone())))
        }
        SettingChange::Delete(setting) => alterable(*setting, 1),
    });
    let resource = AlterConfigsResource::default()
        .with_resource_type(BROKER)
        .with_resource_name(StrBytes::from_string(node.to_string()))
        .with_configs(configs.collect());
    let request = IncrementalAlterConfigsRequest::default()
        .with_resources(vec![resource])
        .with_validate_only(validate == Validate::Only);
    let at = Step::AlterConfigs;
    let reply = connection.ask(at, "IncrementalAlterConfigs", &request, &mut Times::new()).await?;
    match reply.responses.as_slice() {
        [answer] => check(at, answer.error_code, answer.error_message.as_ref()),
        _ => Err(KafkaError { step: at, fault: KafkaFault::Malformed("not one result".into()) }),
    }
}

fn alterable(setting: ListenerSetting, operation: i8) -> AlterableConfig {
    AlterableConfig::default()
        .with_name(StrBytes::from_static_str(setting.key()))
        .with_config_operation(operation)
}

async fn open(target: &Target, times: &mut Times) -> Result<Connection, KafkaError> {
    let mut connection = Connection::open(target, times).await?;
    if let Some(credential) = &target.security.sasl {
        sasl::authenticate(&mut connection, credential, times).await?;
    }
    Ok(connection)
}

/// The view of the broker.
pub(super) async fn describe(
    connection: &mut Connection,
    times: &mut Times,
) -> Result<BrokerView, KafkaError> {
    let (cluster, advertised) = table(connection, times).await?;
    let likely = advertised.keys().next().copied().unwrap_or(NodeId(0));
    let (node, configs) = match configs(connection, likely, times).await? {
        Answer::Is(configs) => (likely, configs),
        Answer::IsNot(node) => match self::configs(connection, node, times).await? {
            Answer::Is(configs) => (node, configs),
            Answer::IsNot(_) => {
                let fault = KafkaFault::Malformed("the broker denies the id that it named itself".into());
                return Err(KafkaError { step: Step::DescribeConfigs, fault });
            }
        },
    };
    let value = |key: &str| {
        let config = configs.iter().find(|config| config.name.as_str() == key);
        config.and_then(|config| config.value.as_ref()).map(|value| value.as_str()).unwrap_or_default()
    };
    let mode = match (value(ROLES), value(MIGRATION)) {
        ("", "true") => MetadataMode::Migrating,
        ("", _) => MetadataMode::ZooKeeper,
        _ => MetadataMode::KRaft,
    };
    let known = |config: &DescribeConfigsResourceResult| {
        let setting =
            ListenerSetting::ALL.into_iter().find(|setting| setting.key() == config.name.as_str())?;
        Some((setting, setting_value(config)))
    };
    let settings = configs.iter().filter_map(known).collect();
    Ok(BrokerView { node, cluster, advertised, settings, mode })
}

type Table = (String, BTreeMap<NodeId, Endpoint>);

/// DescribeCluster where it is offered (2.8+), else Metadata without topics.
async fn table(connection: &mut Connection, times: &mut Times) -> Result<Table, KafkaError> {
    let at = Step::DescribeCluster;
    if connection.offers(DescribeClusterRequest::KEY) {
        let reply = connection.ask(at, "DescribeCluster", &DescribeClusterRequest::default(), times).await?;
        check(at, reply.error_code, reply.error_message.as_ref())?;
        let brokers = reply.brokers.iter().map(|b| (NodeId(b.broker_id.0), endpoint(&b.host, b.port)));
        return Ok((reply.cluster_id.to_string(), brokers.collect()));
    }
    let nothing = MetadataRequest::default().with_topics(Some(Vec::new()));
    let reply = connection.ask(at, "Metadata", &nothing, times).await?;
    check(at, reply.error_code, None)?;
    let brokers = reply.brokers.iter().map(|b| (NodeId(b.node_id.0), endpoint(&b.host, b.port)));
    Ok((reply.cluster_id.map(|id| id.to_string()).unwrap_or_default(), brokers.collect()))
}

fn endpoint(host: &StrBytes, port: i32) -> Endpoint {
    Endpoint { host: host.to_string(), port: u16::try_from(port).unwrap_or(0) }
}

/// Whether the broker that answered has the id that was asked about.
enum Answer {
    Is(Vec<DescribeConfigsResourceResult>),
    IsNot(NodeId),
}

async fn configs(connection: &mut Connection, of: NodeId, times: &mut Times) -> Result<Answer, KafkaError> {
    let keys = ListenerSetting::ALL.into_iter().map(ListenerSetting::key).chain([ROLES, MIGRATION]);
    let resource = DescribeConfigsResource::default()
        .with_resource_type(BROKER)
        .with_resource_name(StrBytes::from_string(of.to_string()))
        .with_configuration_keys(Some(keys.map(StrBytes::from_static_str).collect()));
    let request =
        DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true);
    let at = Step::DescribeConfigs;
    let reply = connection.ask(at, "DescribeConfigs", &request, times).await?;
    let answer = reply.results.into_iter().next();
    let answer = answer.ok_or(KafkaError { step: at, fault: KafkaFault::Malformed("no result".into()) })?;
    let words = answer.error_message.as_ref().map(|text| text.as_str()).unwrap_or_default();
    // The code differs between versions (40 on 2.8.2, 42 later); the words do not.
    if let Some(node) = named_id(words).filter(|_| answer.error_code != 0) {
        return Ok(Answer::IsNot(node));
    }
    check(at, answer.error_code, answer.error_message.as_ref())?;
    Ok(Answer::Is(answer.configs))
}

/// "Unexpected broker id, expected 2 or empty string, but received 0" (ConfigHelper, the same from 2.8.0 to 4.2).
fn named_id(words: &str) -> Option<NodeId> {
    let (_, rest) = words.split_once(", expected ").filter(|_| words.starts_with("Unexpected broker id"))?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok().map(NodeId)
}

fn setting_value(config: &DescribeConfigsResourceResult) -> SettingValue {
    let of = |source: i8| {
        let synonym = config.synonyms.iter().find(|s| s.source == source && s.name == config.name);
        synonym.and_then(|s| s.value.as_ref()).map(|value| value.to_string())
    };
    SettingValue {
        dynamic: of(DYNAMIC),
        fixed: of(STATIC).or_else(|| of(DEFAULT)),
        effective: config.value.as_ref().map(|value| value.to_string()),
    }
}

pub(super) fn check(step: Step, code: i16, message: Option<&StrBytes>) -> Result<(), KafkaError> {
    if code == 0 {
        return Ok(());
    }
    let message: String = message.map(|text| text.as_str()).unwrap_or_default().chars().take(300).collect();
    let fault = match code {
        code if UNAUTHORIZED.contains(&code) => KafkaFault::Authorization(message),
        code if REJECTED.contains(&code) => KafkaFault::Rejected(message),
        code => KafkaFault::Code { code, message },
    };
    Err(KafkaError { step, fault })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_is_asked_for_another_names_itself() {
        let words = "Unexpected broker id, expected 102 or empty string, but received 0";
        assert_eq!(named_id(words), Some(NodeId(102)));
        assert_eq!(named_id("Invalid value, expected 7"), None);
    }
}
