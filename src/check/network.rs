//! What lies between the external network and the brokers: a router, without which the cloud binds no address, and security
//! groups, which let clients in or not.

use std::collections::{BTreeMap, BTreeSet};

use super::findings::{Category, listed};
use crate::{
    api::conditions::Reason,
    cloud::{Binding, CloudError, Port},
    domain::{Ordinal, SecurityGroupId},
    plan::{
        Problem,
        desired::Desired,
        exposure,
        observed::{CloudView, Observed},
    },
};

/// The targets that a router joins with the external network. `None`: not asked, or the cloud does not tell.
pub type Routed = Result<Option<BTreeSet<Binding>>, CloudError>;

/// What each address would be bound to, where the pod has one port and the project owns it.
pub fn targets(observed: &Observed) -> BTreeMap<Ordinal, Binding> {
    let Some(view) = observed.cloud.seen() else { return BTreeMap::new() };
    let target = |(ordinal, port): (Ordinal, &Port)| {
        let fixed_ip = observed.pods.get(&ordinal)?.ip?;
        Some((ordinal, Binding { port: port.id.clone(), fixed_ip }))
    };
    own_ports(view).filter_map(target).collect()
}

fn own_ports(view: &CloudView) -> impl Iterator<Item = (Ordinal, &Port)> {
    view.ports.iter().filter_map(move |(ordinal, ports)| match ports.as_slice() {
        [port] if port.project == view.project => Some((*ordinal, port)),
        _ => None,
    })
}

/// Whether the cloud can bind addresses to these targets. One that is not found may be there: a project is not shown the
/// routers of others, and addresses are bound through those as well.
pub fn routers(found: &mut Category, set: &str, targets: &BTreeMap<Ordinal, Binding>, routed: &Routed) {
    let routed = match routed {
        // Nothing was asked for: no pod has a port yet.
        _ if targets.is_empty() => return,
        Ok(Some(routed)) => routed,
        Ok(None) => return,
        Err(error) => {
            return found.warn(
                format!(
                    "whether a router joins the pod network with the external network is not known: {error}"
                ),
                "The first binding tells; let the credential read routers.",
            );
        }
    };
    let lacks_one = targets.iter().filter(|(_, target)| !routed.contains(target));
    let without: Vec<String> = lacks_one.map(|(ordinal, _)| format!("{set}-{ordinal}")).collect();
    match without.is_empty() {
        true => found.good("a router joins the pod network with the external network"),
        false => found.warn(
            format!(
                "no router that this project can see joins the pod network with the external network: {}",
                listed(&without)
            ),
            format!("{} One of another project will do.", Reason::NoRouter.remedy()),
        ),
    }
}

/// Whether clients get through to the served port. What more the groups admit is the planner's to tell (`InternalExposed`).
pub fn groups(found: &mut Category, desired: &Desired, observed: &Observed, view: &CloudView) {
    match &view.rules {
        Ok(_) => found.good("the rules of the pods' security groups can be read"),
        Err(error) => {
            return found.warn(
                format!("the rules of the pods' security groups cannot be read: {error}"),
                "Exposure is then not checked; let the credential read security groups.",
            );
        }
    }
    let internal = observed.stateful_set.as_ref().and_then(|set| set.internal_port);
    if let Some(served) = exposure::served_port(desired, internal) {
        admitted(found, &desired.stateful_set, view, served);
    }
}

/// One finding for brokers of the same groups: one rule mends them all.
fn admitted(found: &mut Category, set: &str, view: &CloudView, served: u16) {
    let mut blocked: BTreeMap<&[SecurityGroupId], (Problem, Vec<String>)> = BTreeMap::new();
    for (ordinal, port) in own_ports(view) {
        if let Some(problem) = exposure::blocked(port, view, served) {
            let (_, pods) = blocked.entry(&port.security_groups).or_insert_with(|| (problem, Vec::new()));
            pods.push(format!("{set}-{ordinal}"));
        }
    }
    for (Problem { reason, message }, pods) in blocked.values() {
        found.bad(format!("{}: {message}", listed(pods)), reason.remedy());
    }
    if blocked.is_empty() && own_ports(view).next().is_some() {
        found.good(format!("the pods' security groups admit TCP {served} from outside"));
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::{
        check::findings::Finding,
        cli::style::Mark,
        cloud::{CloudFault, IngressRule},
        domain::{NetworkId, PortId, ProjectId},
    };

    fn target(ordinal: u32) -> (Ordinal, Binding) {
        let fixed_ip = Ipv4Addr::new(10, 128, 0, 20 + u8::try_from(ordinal).expect("a small ordinal"));
        (Ordinal(ordinal), Binding { port: PortId::new(format!("port-{ordinal}")), fixed_ip })
    }

    fn of_routers(brokers: u32, routed: &Routed) -> Vec<Finding> {
        let mut found = Category::new("cloud");
        routers(&mut found, "kafka", &(0..brokers).map(target).collect(), routed);
        found.findings
    }

    fn joined(ordinals: impl IntoIterator<Item = u32>) -> Routed {
        Ok(Some(ordinals.into_iter().map(|ordinal| target(ordinal).1).collect()))
    }

    #[test]
    fn a_router_that_joins_every_pod_is_good_and_one_that_is_not_seen_no_failure() {
        let all = of_routers(3, &joined(0..3));
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].mark, all[0].remedy.as_ref()), (Mark::Good, None));
        let none = of_routers(7, &joined([]));
        let [none] = none.as_slice() else { panic!("one: {none:?}") };
        assert_eq!(none.mark, Mark::Warning);
        assert_eq!(
            none.text,
            "no router that this project can see joins the pod network with the external network: \
             kafka-0, kafka-1, kafka-2, kafka-3, kafka-4 and 2 more"
        );
        assert!(
            none.remedy.as_ref().is_some_and(|fix| fix.starts_with(Reason::NoRouter.remedy())),
            "{none:?}"
        );
        let some = of_routers(3, &joined([0, 2]));
        assert!(some[0].text.ends_with(": kafka-1"), "{some:?}");
    }

    #[test]
    fn what_the_cloud_does_not_tell_of_routers_is_not_told() {
        assert_eq!(of_routers(3, &Ok(None)), []);
        assert_eq!(of_routers(0, &joined([])), [], "no pod has a port yet");
        let fault = CloudFault::Forbidden("get_router is disallowed by policy".into());
        let refused = of_routers(3, &Err(CloudError { operation: "find the routers", fault }));
        assert_eq!((refused.len(), refused[0].mark), (1, Mark::Warning));
        assert!(refused[0].text.contains("get_router is disallowed"), "{refused:?}");
    }

    /// Three brokers; group `open` admits TCP 9094 from anywhere, others nothing.
    fn of_groups(groups: [&[&str]; 3], served: u16) -> Vec<Finding> {
        let port = |ordinal: u32, groups: &[&str]| Port {
            id: target(ordinal).1.port,
            network: NetworkId::new("net-pods"),
            project: ProjectId::new("p1"),
            fixed_ips: vec![target(ordinal).1.fixed_ip],
            security_groups: groups.iter().map(|group| SecurityGroupId::new(*group)).collect(),
            port_security_enabled: Some(true),
        };
        let rule = IngressRule {
            id: "rule-1".into(),
            group: SecurityGroupId::new("open"),
            ipv4: true,
            tcp: true,
            ports: Some((9094, 9094)),
            remote_ip_prefix: None,
            remote_group: None,
        };
        let ports =
            (0..).zip(groups).map(|(ordinal, groups)| (Ordinal(ordinal), vec![port(ordinal, groups)]));
        let view = CloudView {
            project: ProjectId::new("p1"),
            floating_network: NetworkId::new("net-public"),
            addresses: Vec::new(),
            ports: ports.collect(),
            rules: Ok(vec![rule]),
            policies: BTreeMap::new(),
            secret_held: true,
            due_in: std::time::Duration::from_secs(300),
        };
        let mut found = Category::new("cloud");
        admitted(&mut found, "kafka", &view, served);
        found.findings
    }

    #[test]
    fn groups_that_keep_clients_out_are_told_once_with_the_rule_to_add() {
        let open = of_groups([&["open"], &["closed", "open"], &["open"]], 9094);
        assert_eq!((open.len(), open[0].mark), (1, Mark::Good));
        let closed = of_groups([&["closed"], &["open"], &["closed"]], 9094);
        let [closed] = closed.as_slice() else { panic!("one: {closed:?}") };
        assert_eq!(closed.mark, Mark::Bad);
        assert!(
            closed.text.starts_with("kafka-0, kafka-2: no rule of the groups of port port-0 admits TCP 9094")
        );
        assert!(closed.text.ends_with("--dst-port 9094 --remote-ip YOUR_CLIENTS closed"), "{closed:?}");
        assert_eq!(closed.remedy.as_deref(), Some(Reason::SecurityGroupBlocks.remedy()));
        assert_eq!(of_groups([&["open"], &["closed"], &["other"]], 9094).len(), 2, "a rule for each group");
        assert_eq!(of_groups([&["open"]; 3], 9092)[0].mark, Mark::Bad, "another port");
    }
}
