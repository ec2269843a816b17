//! What a restart of a broker would cost: partitions, what they need, and the controllers.

use std::collections::BTreeMap;

use kafka_protocol::{
    messages::{
        BrokerId, DescribeConfigsRequest, DescribeQuorumRequest, MetadataRequest, TopicName,
        describe_configs_request::DescribeConfigsResource,
        describe_quorum_request::{PartitionData, TopicData},
        metadata_request::MetadataRequestTopic,
        metadata_response::MetadataResponseTopic,
    },
    protocol::{Request, StrBytes},
};

use super::{
    ClusterState, KafkaError, KafkaFault, Partition, Quorum, Step,
    admin::check,
    wire::{Connection, Times},
};
use crate::domain::NodeId;

/// `ConfigResource.Type.TOPIC`.
const TOPIC: i8 = 2;
const MIN_IN_SYNC: &str = "min.insync.replicas";
const METADATA_TOPIC: &str = "__cluster_metadata";
/// Kafka's own default of `controller.quorum.fetch.timeout.ms`: who is that far behind is not followed by the leader.
const CAUGHT_UP_WITHIN_MS: i64 = 2000;

/// A name that no topic has. Who may describe every topic is told that it does not exist, everybody else that he may not
/// know (`TOPIC_AUTHORIZATION_FAILED`).
const NO_TOPIC: &str = "kafka-external-access.no-topic";
const UNKNOWN_TOPIC: i16 = 3;

/// Asks the broker about its cluster: four requests (three where ZooKeeper keeps the metadata). Who may not describe every
/// topic gets an error: a list of all topics leaves out the others without a word.
pub(super) async fn cluster(
    connection: &mut Connection,
    times: &mut Times,
) -> Result<ClusterState, KafkaError> {
    let at = Step::Metadata;
    sees_every_topic(connection, times).await?;
    let reply = connection.ask(at, "Metadata", &MetadataRequest::default().with_topics(None), times).await?;
    check(at, reply.error_code, None)?;
    let minimum = minimum_in_sync(connection, &reply.topics, times).await?;
    let quorum = match connection.offers(DescribeQuorumRequest::KEY) {
        true => Some(quorum(connection, times).await?),
        false => None,
    };
    let controller = (reply.controller_id.0 >= 0).then_some(NodeId(reply.controller_id.0));
    let partitions = reply.topics.iter().flat_map(|topic| partitions(topic, &minimum)).collect();
    Ok(ClusterState { partitions, controller, quorum })
}

async fn sees_every_topic(connection: &mut Connection, times: &mut Times) -> Result<(), KafkaError> {
    let at = Step::Metadata;
    let name = Some(TopicName(StrBytes::from_static_str(NO_TOPIC)));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![MetadataRequestTopic::default().with_name(name)]))
        .with_allow_auto_topic_creation(false);
    let reply = connection.ask(at, "Metadata", &request, times).await?;
    let code = reply.topics.first().map(|topic| topic.error_code).filter(|code| *code != UNKNOWN_TOPIC);
    let right = "Describe and DescribeConfigs on every topic (--topic '*'); without that the topics that a restart would hurt are not seen";
    check(at, code.unwrap_or(0), Some(&StrBytes::from_static_str(right)))
}

fn name_of(topic: &MetadataResponseTopic) -> String {
    topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default()
}

fn partitions(topic: &MetadataResponseTopic, minimum: &BTreeMap<String, u32>) -> Vec<Partition> {
    let nodes = |ids: &[BrokerId]| ids.iter().map(|id| NodeId(id.0)).collect();
    let topic_name = name_of(topic);
    let all = topic.partitions.iter().map(|partition| Partition {
        topic: topic_name.clone(),
        number: partition.partition_index,
        replicas: nodes(&partition.replica_nodes),
        in_sync: nodes(&partition.isr_nodes),
        // A topic that was made between the two requests: the strictest guess.
        min_in_sync: minimum.get(&topic_name).copied().unwrap_or(u32::MAX),
    });
    all.collect()
}

async fn minimum_in_sync(
    connection: &mut Connection,
    topics: &[MetadataResponseTopic],
    times: &mut Times,
) -> Result<BTreeMap<String, u32>, KafkaError> {
    let at = Step::DescribeConfigs;
    let resource = |topic: &MetadataResponseTopic| {
        DescribeConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(StrBytes::from_string(name_of(topic)))
            .with_configuration_keys(Some(vec![StrBytes::from_static_str(MIN_IN_SYNC)]))
    };
    let request = DescribeConfigsRequest::default().with_resources(topics.iter().map(resource).collect());
    let reply = connection.ask(at, "DescribeConfigs", &request, times).await?;
    let mut minimum = BTreeMap::new();
    for answer in &reply.results {
        check(at, answer.error_code, answer.error_message.as_ref())?;
        let value = answer.configs.iter().find(|config| config.name.as_str() == MIN_IN_SYNC);
        let number = value.and_then(|config| config.value.as_ref()?.parse().ok());
        minimum.extend(number.map(|number| (answer.resource_name.to_string(), number)));
    }
    Ok(minimum)
}

async fn quorum(connection: &mut Connection, times: &mut Times) -> Result<Quorum, KafkaError> {
    let at = Step::DescribeQuorum;
    let topic = TopicData::default()
        .with_topic_name(TopicName(StrBytes::from_static_str(METADATA_TOPIC)))
        .with_partitions(vec![PartitionData::default()]);
    let request = DescribeQuorumRequest::default().with_topics(vec![topic]);
    let reply = connection.ask(at, "DescribeQuorum", &request, times).await?;
    check(at, reply.error_code, reply.error_message.as_ref())?;
    let partition = reply.topics.first().and_then(|topic| topic.partitions.first());
    let partition = partition
        .ok_or(KafkaError { step: at, fault: KafkaFault::Malformed("no partition in the answer".into()) })?;
    check(at, partition.error_code, partition.error_message.as_ref())?;
    let latest =
        partition.current_voters.iter().map(|voter| voter.last_caught_up_timestamp).max().unwrap_or(-1);
    let voters = partition.current_voters.iter().map(|voter| {
        let lately = voter.last_caught_up_timestamp >= 0
            && latest - voter.last_caught_up_timestamp <= CAUGHT_UP_WITHIN_MS;
        // Version 0 has no times.
        let whole = latest < 0 && voter.log_end_offset >= partition.high_watermark;
        (NodeId(voter.replica_id.0), lately || whole)
    });
    Ok(Quorum { leader: NodeId(partition.leader_id.0), voters: voters.collect() })
}
