//! A Kafka besides that of the lab, in a namespace of its own, with the Secret that an object there needs.

use kafka_external_access::api::KafkaExternalAccess;
use lab::{
    Progress,
    kafka::{Flavour, Kafka},
};
use serde_json::{Value, json};

use crate::world::{ROLLED, World, condition, current, describe, smallest};

/// That Kafka.
pub struct Elsewhere {
    lab: &'static lab::Lab,
    kafka: Kafka<'static>,
    pub namespace: &'static str,
}

/// Builds the image of a Kafka, before the test enters a lab: from there no registry can be reached.
pub fn build_image(flavour: Flavour) {
    let cache = lab::Cache::new(&lab::Paths::from_environment());
    flavour.image(&cache, &Progress::silent()).expect("an image");
}

impl Elsewhere {
    /// Three brokers that serve.
    pub fn deploy(world: &World, flavour: Flavour, namespace: &'static str) -> Self {
        let kafka = world.lab.kafka(flavour, namespace);
        kafka.deploy(&Progress::silent()).expect("brokers are deployed");
        kafka.wait_ready().expect("brokers are ready");
        let here = Self { lab: world.lab, kafka, namespace };
        here.apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "openstack", "namespace": namespace},
            "stringData": {"clouds.yaml": world.cloud.clouds_yaml_through_proxy(&world.cloud.facts().demo)},
        }));
        here
    }

    /// The smallest object for this Kafka.
    pub fn smallest(&self) -> Value {
        let mut object = smallest();
        object["metadata"]["namespace"] = json!(self.namespace);
        object
    }

    pub fn apply(&self, object: &Value) {
        let command = self.lab.command("kubectl").args(["apply", "-f", "-"]);
        command.text_with_input(object.to_string().as_bytes()).expect("the object is accepted");
    }

    /// What kubectl prints in this namespace.
    pub fn kubectl(&self, args: &[&str]) -> String {
        let command = [&["-n", self.namespace], args].concat();
        self.lab.kubectl(&command).expect("kubectl")
    }

    /// Waits for a condition of this status, and where `reason` is given for that.
    pub async fn until(
        &self,
        world: &World,
        kind: &str,
        status: &str,
        reason: Option<&str>,
    ) -> KafkaExternalAccess {
        let accesses = world.accesses_in(self.namespace);
        world
            .eventually(&format!("{kind}={status} {}", reason.unwrap_or_default()), ROLLED, async || {
                let object = accesses.get("kafka").await.map_err(|error| error.to_string())?;
                match condition(&object, kind) {
                    Some((seen, why))
                        if seen == status
                            && reason.is_none_or(|reason| reason == why)
                            && current(&object) =>
                    {
                        Ok(object)
                    }
                    _ => Err(describe(&object)),
                }
            })
            .await
    }

    /// Everything of it goes.
    pub fn remove(self) {
        self.kafka.remove().expect("brokers are removed");
    }
}
