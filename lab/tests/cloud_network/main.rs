//! The network of the lab does what a cloud's network does. Needs a lab: `cargo lab up`.

mod guest;

use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use guest::{ANSWERS, Guest, SILENT, aside, connect, echoes, speed};
use lab::cloud::{CloudFacts, Direction, PortForwarding, SecurityRule, Service, Session};
use lab::{Lab, LabError, Readiness, Turn};
use serde_json::json;

const ROUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const NODE: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 1);

/// A lab for this test alone: its switch for hairpin is one for all.
fn lab() -> (Turn, &'static Lab) {
    let turn = Turn::take().expect("a lab");
    let lab =
        Lab::attach_at(turn.paths()).unwrap_or_else(|error| panic!("{error}; start the lab: cargo lab up"));
    (turn, Box::leak(Box::new(lab)))
}

fn demo(lab: &Lab) -> Session {
    lab.cloud().demo().expect("a session")
}

fn kafka_like() -> [SecurityRule; 3] {
    [
        SecurityRule::everything(Direction::Egress, "0.0.0.0/0"),
        SecurityRule::everything(Direction::Ingress, "10.128.0.0/22"),
        SecurityRule::tcp(9094),
    ]
}

fn on_vm<T: Send>(lab: &Lab, work: impl FnOnce() -> T + Send) -> T {
    aside(|| {
        lab.vm().and_then(|vm| vm.enter_network()).expect("the virtual machine");
        work()
    })
}

fn in_lab<T: Send>(lab: &Lab, work: impl FnOnce() -> T + Send) -> T {
    aside(|| {
        lab.enter_network().expect("the lab's network");
        work()
    })
}

fn opens(address: Ipv4Addr, port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from((address, port)), ANSWERS).is_ok()
}

fn is_shut(address: Ipv4Addr, port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from((address, port)), SILENT).is_err()
}

/// Whether the cluster's DNS answers a question for the name `kubernetes.default.svc.cluster.local`.
fn resolves(server: Ipv4Addr, limit: Duration) -> bool {
    let mut question = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["kubernetes", "default", "svc", "cluster", "local"] {
        question.push(u8::try_from(label.len()).expect("a short label"));
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
    socket.set_read_timeout(Some(limit)).expect("a time limit");
    let sent = socket.send_to(&question, (server, 53));
    sent.is_ok() && socket.recv(&mut [0; 512]).is_ok()
}

#[test]
fn the_machine_reaches_floating_ips_and_no_pod_service_dns_or_api_server() {
    let (_turn, lab) = lab();
    let mut guest = Guest::new(lab, 10, &kafka_like());
    let floating = guest.bind();
    let service = Ipv4Addr::new(10, 96, 0, 1);
    let closed = [(guest.fixed, 9094), (service, 443), (NODE, 16443), (NODE, 5000), (NODE, 9696)];
    // Each of them answers in the cluster: what the machine does not see is there.
    guest.inside(|| {
        for (address, port) in closed {
            assert!(opens(address, port), "{address}:{port} answers in the cluster");
        }
        assert!(resolves(NODE, ANSWERS));
    });
    on_vm(lab, || {
        assert_eq!(connect(floating, 9094).expect("the floating IP answers").1, "guest-10 203.0.113.200");
        for (address, port) in closed {
            assert!(is_shut(address, port), "{address}:{port} answers the machine");
        }
        for port in [16443, 5000, 9696, 10250] {
            assert!(is_shut(ROUTER, port), "the router's port {port} answers the machine");
            assert!(is_shut(floating, port), "a port of the node answers at the floating IP: {port}");
        }
        assert!(!resolves(NODE, SILENT) && !resolves(ROUTER, SILENT));
    });
}

#[test]
fn the_machine_knows_the_names_in_its_own_hosts_file_and_no_others() {
    let (_turn, lab) = lab();
    let vm = lab.vm().expect("the virtual machine");
    let name = "kafka-0.kafka-headless.ydata.svc";
    let look = || vm.command("getent").args(["hosts", name]).output().expect("getent runs");
    assert!(!look().status.success());
    vm.write_hosts(&format!("203.0.113.77 {name}")).expect("written");
    assert!(String::from_utf8_lossy(&look().stdout).starts_with("203.0.113.77 "));
    vm.write_hosts("").expect("written");
    assert!(!look().status.success());
}

#[test]
fn a_pod_leaves_with_its_own_floating_ip_or_with_the_routers_address() {
    let (_turn, lab) = lab();
    let mut guest = Guest::new(lab, 10, &kafka_like());
    let listener = on_vm(lab, || std::net::TcpListener::bind("203.0.113.200:7000").expect("a listener"));
    let seen_as = |guest: &Guest| {
        let connection =
            guest.inside(|| TcpStream::connect("203.0.113.200:7000").expect("the machine answers"));
        let peer = listener.accept().expect("a connection").1.ip();
        drop(connection);
        peer
    };
    lab.cloud().settle().expect("the router follows");
    assert_eq!(seen_as(&guest), ROUTER);
    let floating = guest.bind();
    assert_eq!(seen_as(&guest), floating);
}

#[test]
fn a_security_group_decides_what_comes_from_outside_even_on_connections_that_exist() {
    let (_turn, lab) = lab();
    let mut guest = Guest::new(lab, 10, &kafka_like());
    let neighbour = Guest::new(lab, 11, &[]);
    let floating = guest.bind();
    let demo = demo(lab);
    assert!(on_vm(lab, || is_shut(floating, 8080)), "no rule opens 8080");
    let rule = demo.add_rule(&guest.group, &SecurityRule::tcp(8080)).expect("a rule");
    lab.cloud().settle().expect("the router follows");
    let (mut stream, _) = on_vm(lab, || connect(floating, 8080).expect("opened"));
    assert!(echoes(&mut stream));
    demo.delete_rule(&rule.id).expect("deleted");
    lab.cloud().settle().expect("the router follows");
    assert!(!echoes(&mut stream), "the connection lives though its rule is gone");
    assert!(on_vm(lab, || is_shut(floating, 8080)));
    // Port security off: everything is open.
    let open = json!({"port_security_enabled": false, "security_groups": []});
    demo.update_port(&guest.port, &open).expect("changed");
    lab.cloud().settle().expect("the router follows");
    assert!(on_vm(lab, || opens(floating, 8080)));
    // Within the cluster nothing is filtered, not even for a group without rules.
    assert!(guest.inside(|| opens(neighbour.fixed, 8080)));
}

#[test]
fn the_policy_of_an_address_limits_both_directions() {
    let (_turn, lab) = lab();
    let mut guest = Guest::new(lab, 10, &kafka_like());
    let floating = guest.bind();
    let speeds = || on_vm(lab, || [speed(floating, true), speed(floating, false)]);
    let free = speeds();
    assert!(free.iter().all(|speed| *speed > 60.0), "{free:?} Mbit/s without a policy");
    let admin = lab.cloud().admin().expect("a session");
    let policy = admin.create_qos_policy("test-20", 20_000).expect("a policy");
    demo(lab).update_floating_ip(&guest.floating().id, &json!({"qos_policy_id": policy})).expect("changed");
    lab.cloud().settle().expect("the router follows");
    let limited = speeds();
    println!("without a policy {free:.0?} Mbit/s, with 20 Mbit/s {limited:.1?}");
    demo(lab).update_floating_ip(&guest.floating().id, &json!({"qos_policy_id": null})).expect("changed");
    admin.network("DELETE", &format!("/qos/policies/{policy}"), None).expect("deleted");
    assert!(limited.iter().all(|speed| (14.0..23.0).contains(speed)), "{limited:?} Mbit/s with 20 Mbit/s");
    lab.cloud().settle().expect("the router follows");
    let free = speeds();
    assert!(free.iter().all(|speed| *speed > 60.0), "{free:?} Mbit/s without a policy again");
}

#[test]
fn pods_and_node_reach_floating_ips_unless_hairpin_is_off() {
    let (_turn, lab) = lab();
    let mut guest = Guest::new(lab, 10, &kafka_like());
    let mut neighbour = Guest::new(lab, 11, &kafka_like());
    let stranger = Guest::new(lab, 12, &kafka_like());
    let (first, second) = (guest.bind(), neighbour.bind());
    let hello = |guest: &Guest, to: Ipv4Addr| guest.inside(|| connect(to, 9094).map(|(_, line)| line).ok());
    // Itself, a neighbour, a pod without an address, the node: each is seen with an address of the external network.
    assert_eq!(hello(&guest, first), Some(format!("guest-10 {first}")));
    assert_eq!(hello(&guest, second), Some(format!("guest-11 {first}")));
    assert_eq!(hello(&stranger, first), Some(format!("guest-10 {ROUTER}")));
    let node = || in_lab(lab, || connect(first, 9094).map(|(_, line)| line).ok());
    assert_eq!(node(), Some(format!("guest-10 {ROUTER}")));
    assert!(
        stranger.inside(|| is_shut(first, 8080)),
        "through the floating IP a pod is a stranger to the security group"
    );
    lab.cloud().set_hairpin(false).expect("switched off");
    let off = [
        guest.inside(|| is_shut(first, 9094)),
        guest.inside(|| is_shut(second, 9094)),
        stranger.inside(|| is_shut(first, 9094)),
        in_lab(lab, || is_shut(first, 9094)),
    ];
    let outside = on_vm(lab, || opens(first, 9094));
    let direct = guest.inside(|| opens(neighbour.fixed, 9094));
    lab.cloud().set_hairpin(true).expect("switched on");
    assert_eq!(off, [true; 4]);
    assert!(outside && direct);
    assert_eq!(hello(&guest, second), Some(format!("guest-11 {first}")));
}

#[test]
fn a_port_forwarding_leads_to_one_port() {
    let (_turn, lab) = lab();
    let guest = Guest::new(lab, 10, &kafka_like());
    let demo = demo(lab);
    let network = &lab.cloud().facts().external_network_id;
    let floating = demo.create_floating_ip(network, "forwarding", None).expect("a floating IP");
    let forwarding = PortForwarding {
        id: None,
        protocol: "tcp".to_owned(),
        external_port: 19094,
        internal_ip_address: guest.fixed,
        internal_port: 9094,
        internal_port_id: Some(guest.port.clone()),
    };
    let made = demo.create_port_forwarding(&floating.id, &forwarding).expect("a forwarding");
    lab.cloud().settle().expect("the router follows");
    let address = floating.floating_ip_address;
    let outside = on_vm(lab, || connect(address, 19094).map(|(_, line)| line).ok());
    let hairpin = guest.inside(|| connect(address, 19094).map(|(_, line)| line).ok());
    let shut = on_vm(lab, || is_shut(address, 9094));
    let id = made.id.expect("an id");
    let path = format!("/floatingips/{}/port_forwardings/{id}", floating.id);
    demo.network("DELETE", &path, None).expect("deleted");
    demo.delete_floating_ip(&floating.id).expect("deleted");
    assert_eq!(outside.as_deref(), Some("guest-10 203.0.113.200"));
    assert_eq!(hairpin, Some(format!("guest-10 {ROUTER}")));
    assert!(shut, "a port that is not forwarded answers");
}

#[test]
fn a_moved_address_leads_to_the_new_pod_at_once_and_its_status_is_reported() {
    let (_turn, lab) = lab();
    let mut guest = Guest::new(lab, 10, &kafka_like());
    let neighbour = Guest::new(lab, 11, &kafka_like());
    let floating = guest.bind();
    let demo = demo(lab);
    let status = |wanted: &str| {
        lab::wait_until(wanted, Duration::from_secs(120), || match demo.floating_ip(&guest.floating().id) {
            Ok(fip) if fip.status == wanted => Readiness::Ready,
            other => Readiness::NotYet(format!("{other:?}")),
        })
        .expect("the status");
    };
    status("ACTIVE");
    let (mut stream, _) = on_vm(lab, || connect(floating, 9094).expect("bound"));
    assert!(echoes(&mut stream));
    let id = &guest.floating().id;
    demo.update_floating_ip(id, &json!({"port_id": neighbour.port})).expect("moved");
    lab.cloud().settle().expect("the router follows");
    assert!(!echoes(&mut stream), "the connection of the former pod lives");
    assert_eq!(on_vm(lab, || connect(floating, 9094).expect("moved").1), "guest-11 203.0.113.200");
    demo.update_floating_ip(id, &json!({"port_id": null})).expect("unbound");
    lab.cloud().settle().expect("the router follows");
    assert!(on_vm(lab, || is_shut(floating, 9094)));
    status("DOWN");
}

#[test]
fn the_network_stays_as_it_is_while_the_services_are_down_and_follows_again_afterwards() {
    let (_turn, lab) = lab();
    let cloud = lab.cloud();
    let mut guest = Guest::new(lab, 10, &kafka_like());
    let floating = guest.bind();
    cloud.stop(Service::Neutron).expect("stopped");
    cloud.stop(Service::Keystone).expect("stopped");
    let refused = cloud.demo().is_err();
    std::thread::sleep(Duration::from_secs(1));
    let works = on_vm(lab, || opens(floating, 9094));
    cloud.start(Service::Keystone).expect("started");
    cloud.start(Service::Neutron).expect("started");
    assert!(refused && works);
    let demo = demo(lab);
    demo.update_floating_ip(&guest.floating().id, &json!({"port_id": null})).expect("unbound");
    cloud.settle().expect("the router follows");
    assert!(on_vm(lab, || is_shut(floating, 9094)));
}

#[test]
fn credentials_can_be_made_used_and_taken_away() {
    let (_turn, lab) = lab();
    let cloud = lab.cloud();
    let admin = cloud.admin().expect("a session");
    let project = &cloud.facts().demo;
    let name = format!("guest-{}", std::process::id());
    let mut user = admin
        .create_user(&name, "first", (&project.project, &project.project_id), &["member"])
        .expect("a user");
    let session = cloud.login(&user).expect("the first password");
    let credential = session.create_application_credential("test").expect("a credential");
    assert!(credential.clouds_yaml(&cloud.facts().keystone, CloudFacts::REGION).contains(&credential.id));
    admin.set_password(&user.user_id, "second").expect("changed");
    let refused = cloud.login(&user);
    user.password = "second".to_owned();
    let accepted = cloud.login(&user);
    admin.set_enabled(&user.user_id, false).expect("disabled");
    let disabled = cloud.login(&user);
    admin.identity("DELETE", &format!("/users/{}", user.user_id), None).expect("deleted");
    let status = |result: &lab::Result<Session>| match result {
        Err(LabError::Api { status, .. }) => *status,
        other => panic!("{other:?}"),
    };
    assert_eq!(status(&refused), 401);
    assert!(accepted.is_ok());
    assert_eq!(status(&disabled), 401);
}

#[test]
fn tokens_live_as_long_as_was_set() {
    let (_turn, lab) = lab();
    let cloud = lab.cloud();
    // Long enough for one call on a busy machine.
    let life = 15;
    cloud.set_token_seconds(life).expect("a short life");
    let session = demo(lab);
    let first = session.token();
    session.floating_ips().expect("a list");
    let unchanged = session.token() == first;
    std::thread::sleep(Duration::from_secs(life.into()));
    let renewed = lab::wait_until("a new token", Duration::from_secs(120), || {
        session.floating_ips().expect("a list");
        if session.token() == first { Readiness::NotYet("the first".to_owned()) } else { Readiness::Ready }
    });
    cloud.set_token_seconds(3600).expect("the usual life");
    assert!(unchanged);
    renewed.expect("the token has ended");
}

#[test]
fn a_second_region_leads_to_where_a_proxy_may_listen() {
    let (_turn, lab) = lab();
    let cloud = lab.cloud();
    let path = format!("/endpoints?region_id={}&interface=public", CloudFacts::PROXY_REGION);
    let list = cloud.admin().and_then(|admin| admin.identity("GET", &path, None)).expect("a list");
    let mut urls: Vec<&str> = list["endpoints"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|endpoint| endpoint["url"].as_str())
        .collect();
    urls.sort_unstable();
    let keystone = format!("{}/v3", CloudFacts::PROXY_KEYSTONE);
    assert_eq!(urls, [keystone.as_str(), CloudFacts::PROXY_NEUTRON]);
    let file = cloud.clouds_yaml_through_proxy(&cloud.facts().demo);
    assert!(file.contains(&keystone) && file.contains(CloudFacts::PROXY_REGION), "{file}");
}

#[test]
fn the_cloud_was_set_up_once() {
    let (_turn, lab) = lab();
    let admin = lab.cloud().admin().expect("a session");
    for name in [CloudFacts::EXTERNAL_NETWORK, CloudFacts::POD_NETWORK] {
        let list = admin.network("GET", &format!("/networks?name={name}"), None).expect("a list");
        assert_eq!(list["networks"].as_array().map(Vec::len), Some(1), "{name}");
    }
}
