use std::path::Path;

use crate::kafka::Flavour;
use crate::template::fill;

const ZOOKEEPER: &str = include_str!("../../assets/kafka/zookeeper.yaml");
const KAFKA_ZOOKEEPER: &str = include_str!("../../assets/kafka/kafka-zookeeper.yaml");
const KAFKA_KRAFT: &str = include_str!("../../assets/kafka/kafka-kraft.yaml");
const CONTROLLER: &str = include_str!("../../assets/kafka/controller.yaml");
const CLIENT: &str = include_str!("../../assets/kafka/client.yaml");
const BROKERS: u32 = 3;

/// The manifests of a Kafka of three brokers as a user would have it, and of a pod `client` beside it. `volumes` is a folder of the node: a broker that is
/// created anew finds its log there, as with a volume claim.
#[must_use]
pub fn manifests(flavour: Flavour, namespace: &str, volumes: &Path) -> String {
    let brokers = match flavour {
        Flavour::ZooKeeper | Flavour::ZooKeeper39 => format!("{ZOOKEEPER}{KAFKA_ZOOKEEPER}"),
        Flavour::KRaft | Flavour::KRaft100 => KAFKA_KRAFT.to_owned(),
        Flavour::KRaft39 => format!("{CONTROLLER}{KAFKA_KRAFT}"),
    };
    let (roles, listeners) = match flavour {
        Flavour::KRaft39 => ("broker", "INTERNAL://:9092"),
        _ => ("broker,controller", "INTERNAL://:9092,CONTROLLER://:9093"),
    };
    let first = flavour.first_node_id();
    let voters = match flavour {
        Flavour::KRaft39 => format!("1000@controller-0.controller.{namespace}.svc:9093"),
        _ => (0..BROKERS)
            .map(|ordinal| format!("{}@kafka-{ordinal}.kafka-headless.{namespace}.svc:9093", first + ordinal))
            .collect::<Vec<_>>()
            .join(","),
    };
    let head = "apiVersion: v1\nkind: Namespace\nmetadata: {name: {{namespace}}}\n";
    fill(
        &format!("{head}{brokers}{CLIENT}"),
        &[
            ("namespace", namespace),
            ("image", &flavour.image_name()),
            ("volumes", &volumes.display().to_string()),
            ("voters", &voters),
            ("roles", roles),
            ("listeners", listeners),
            ("first_node_id", &first.to_string()),
        ],
    )
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_placeholder_is_filled() {
        for flavour in Flavour::value_variants() {
            let text = manifests(*flavour, "other", Path::new("/volumes"));
            assert!(!text.contains("{{"), "{text}");
            assert!(!text.contains("ydata"), "the namespace is a parameter: {text}");
        }
    }

    #[test]
    fn node_ids_start_at_one_hundred_where_the_flavour_says_so() {
        let text = manifests(Flavour::KRaft100, "ydata", Path::new("/volumes"));
        assert!(text.contains("102@kafka-2.kafka-headless.ydata.svc:9093"));
        assert!(text.contains("$((100 + ${POD_NAME##*-}))"));
    }

    #[test]
    fn internal_is_advertised_by_a_name_without_the_cluster_domain() {
        for flavour in [Flavour::ZooKeeper, Flavour::KRaft] {
            let text = manifests(flavour, "ydata", Path::new("/volumes"));
            assert!(text.contains("INTERNAL://$(POD_NAME).kafka-headless.ydata.svc:9092"));
        }
    }
}
