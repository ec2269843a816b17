//! `kafka-external-access verify`: proves that an operator which is installed works, without a Kafka and without a cloud.
//!
//! It makes an object in mode Plan about a StatefulSet that does not exist, waits until the operator has answered just
//! that, and removes the object. So the kind is served, the operator sees objects of this namespace, leads, reads, and
//! may write a status. Nothing else is written.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::json;

use crate::{
    api::{
        KafkaExternalAccess,
        conditions::{ConditionType, Reason},
    },
    kubernetes::api::client,
    runtime::{clock::SystemClock, interval},
    seams::Clock,
};

/// Between two looks at the object.
const LOOK: Duration = Duration::from_millis(500);

/// Proves that the operator serves a namespace. Needs the right to create, get and delete a KafkaExternalAccess there.
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// A namespace that the operator serves. Default: the current one
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// How long the operator may take to answer, for example `30s`
    #[arg(long, default_value = "30s", value_parser = interval)]
    pub timeout: Duration,
}

/// Why it is not proved.
#[derive(Debug, thiserror::Error)]
enum VerifyError {
    #[error("no way to the API server: {0}")]
    Config(#[from] kube::config::InferConfigError),
    #[error("the API server refuses: {0}")]
    Refused(#[from] kube::Error),
    #[error("the object cannot be made: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error(
        "no answer within {limit} s ({seen}). Does an operator run, and does it serve namespace {namespace}?"
    )]
    NoAnswer { limit: u64, seen: String, namespace: String },
}

/// Runs the command. Exit code 0: proved.
pub async fn run(args: VerifyArgs) -> ExitCode {
    match verify(&args).await {
        Ok(namespace) => {
            println!("ok: the operator answers for objects of namespace {namespace}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("FAIL: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn verify(args: &VerifyArgs) -> Result<String, VerifyError> {
    let config = kube::Config::infer().await?;
    let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let objects: Api<KafkaExternalAccess> = Api::namespaced(client(config)?, &namespace);
    let object = serde_json::from_value(json!({
        "apiVersion": "kafkaaccess.dev/v1alpha1", "kind": "KafkaExternalAccess",
        "metadata": {"generateName": "verify-"},
        "spec": {
            "mode": "Plan",
            "kafka": {"statefulSet": {"name": "none-for-verification"}},
            "addresses": {"provider": {"type": "Static"}},
        },
    }))?;
    let name = objects.create(&PostParams::default(), &object).await?.name_any();
    let answered = answered(&objects, &name, &namespace, args.timeout).await;
    objects.delete(&name, &DeleteParams::default()).await?;
    answered.map(|()| namespace)
}

async fn answered(
    objects: &Api<KafkaExternalAccess>,
    name: &str,
    namespace: &str,
    limit: Duration,
) -> Result<(), VerifyError> {
    let clock = SystemClock::default();
    let start = clock.monotonic();
    loop {
        let object = objects.get(name).await?;
        let accepted = verdict(&object);
        if accepted.as_deref() == Some(Reason::StatefulSetNotFound.into()) {
            return Ok(());
        }
        if clock.monotonic() - start >= limit {
            let seen =
                accepted.map_or("it has no status".to_owned(), |reason| format!("its status says {reason}"));
            return Err(VerifyError::NoAnswer {
                limit: limit.as_secs(),
                seen,
                namespace: namespace.to_owned(),
            });
        }
        clock.sleep(LOOK).await;
    }
}

/// Why the object is, or is not, accepted; `None` until the operator has answered its spec of now.
fn verdict(object: &KafkaExternalAccess) -> Option<String> {
    let status = object.status.as_ref()?;
    let current = status.observed_generation == object.metadata.generation;
    let accepted = status.condition(ConditionType::Accepted).filter(|_| current)?;
    Some(accepted.reason.clone())
}
