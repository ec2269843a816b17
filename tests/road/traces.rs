//! Traces as a collector receives them: which spans there are, and which is below which.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{Router, body::Bytes, extract::State};
use kafka_external_access::{
    cloud::{
        Clouds, Credential,
        openstack::{CallObserver, CallOutcome, OpenStackClouds},
    },
    kafka::{Brokers, Security, Target, admin::TcpBrokers},
    kubernetes::{
        Kubernetes,
        api::{KubeApi, client},
    },
    runtime::{clock::SystemClock, traces::Traces},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message;
use tokio::{net::TcpListener, sync::mpsc};
use tracing::{Dispatch, Instrument, subscriber::NoSubscriber};
use tracing_subscriber::layer::SubscriberExt;

use crate::world::World;

/// Where nobody listens.
const NOWHERE: &str = "127.0.0.1:1";

/// Runs `work` with traces, and returns what came over the wire.
async fn received(work: impl Future) -> (String, Vec<Span>) {
    // As in `log.rs`: beside another subscriber.
    let _other = Dispatch::new(NoSubscriber::default());
    let (sender, mut bodies) = mpsc::unbounded_channel::<Bytes>();
    let collect = |State(sender): State<mpsc::UnboundedSender<Bytes>>, body: Bytes| async move {
        sender.send(body).expect("the test listens");
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}/v1/traces", listener.local_addr().expect("an address"));
    let router = Router::new().route("/v1/traces", axum::routing::post(collect)).with_state(sender);
    let serving = tokio::spawn(async { axum::serve(listener, router).await });
    let traces = Traces::to(Some(&endpoint)).expect("a URL");
    let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(traces.layer()));
    work.await;
    drop(guard);
    traces.end().await;
    serving.abort();
    let (mut service, mut spans) = (String::new(), Vec::new());
    while let Ok(body) = bodies.try_recv() {
        let request = ExportTraceServiceRequest::decode(body).expect("OTLP");
        for resource in request.resource_spans {
            let of = resource.resource.expect("a resource");
            service = attribute(&of.attributes, "service.name").unwrap_or_default();
            spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    (service, spans)
}

fn attribute(of: &[KeyValue], name: &str) -> Option<String> {
    let value = of.iter().find(|attribute| attribute.key == name)?.value.clone()?.value?;
    match value {
        Value::StringValue(text) => Some(text),
        other => Some(format!("{other:?}")),
    }
}

/// The spans below the only one of that name, as `name detail`.
fn below<'a>(spans: &'a [Span], name: &str, detail: &str) -> (&'a Span, BTreeMap<String, usize>) {
    let named: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
    let [parent] = named[..] else { panic!("{} spans {name}", named.len()) };
    assert!(parent.parent_span_id.is_empty(), "{name} is no root");
    let mut children = BTreeMap::new();
    for span in spans.iter().filter(|span| span.parent_span_id == parent.span_id) {
        assert_eq!(span.trace_id, parent.trace_id);
        let detail = attribute(&span.attributes, detail).unwrap_or_default();
        *children.entry(format!("{} {detail}", span.name)).or_default() += 1;
    }
    (parent, children)
}

#[tokio::test]
async fn a_reconcile_is_a_span_with_the_object_and_each_write_is_one_below_it() {
    let world = World::of_three_brokers().await;
    let (service, spans) = received(world.reconcile()).await;
    assert_eq!(service, "kafka-external-access");
    let (reconcile, writes) = below(&spans, "reconcile", "step");
    assert_eq!(attribute(&reconcile.attributes, "key").as_deref(), Some("ydata/kafka"));
    assert_eq!(spans.len(), writes.values().sum::<usize>() + 1, "a span is somewhere else: {spans:?}");
    assert!(writes.keys().all(|write| write.starts_with("write ")), "{writes:?}");
    assert_eq!(writes.get("write status"), Some(&1), "{writes:?}");
    let allocations = writes.keys().filter(|write| write.starts_with("write allocate an address for "));
    assert_eq!(allocations.count(), 3, "{writes:?}");
}

struct Unheard;

impl CallObserver for Unheard {
    fn called(&self, _: &'static str, _: CallOutcome, _: Duration) {}
}

#[tokio::test]
async fn calls_to_a_cloud_to_a_broker_and_to_the_api_server_are_spans_below_the_one_they_are_made_in() {
    let clouds = OpenStackClouds::new(Arc::new(SystemClock::default()), Arc::new(Unheard));
    let credential = Credential {
        namespace: "ydata".into(),
        secret: "openstack".into(),
        version: "1".into(),
        cloud_name: "dev".into(),
        clouds_yaml: format!(
            "clouds: {{dev: {{auth: {{auth_url: 'http://{NOWHERE}/v3', application_credential_id: a, \
             application_credential_secret: hidden}}, auth_type: v3applicationcredential}}}}"
        ),
        cacert: None,
    };
    let cloud = clouds.open(&credential).expect("a readable credential");
    let target = Target {
        at: NOWHERE.parse().expect("an address"),
        security: Security::default(),
        step_timeout: Duration::from_secs(1),
    };
    let config = kube::Config::new(format!("http://{NOWHERE}").parse().expect("a URL"));
    let kubernetes = KubeApi::new(client(config).expect("a client"), Vec::new());
    let calls = async {
        assert!(kubernetes.accesses().await.is_err());
        assert!(cloud.list().await.is_err());
        assert!(!TcpBrokers.accepts(&target).await);
    };
    let root = async { calls.instrument(tracing::info_span!(target: "kafka_external_access", "root")).await };
    let (_, spans) = received(root).await;
    let (_, calls) = below(&spans, "root", "call");
    assert_eq!(calls.get("kafka accepts"), Some(&1), "{calls:?}");
    let (_, calls) = below(&spans, "root", "method");
    assert_eq!(calls.get("cloud POST"), Some(&1), "{calls:?}");
    let (_, calls) = below(&spans, "root", "operation");
    assert_eq!(calls.get("kubernetes list KafkaExternalAccess objects"), Some(&1), "{calls:?}");
    assert!(!format!("{spans:?}").contains("hidden"));
}
