//! A pod as the network sees it: a namespace on the pods' bridge with a Neutron port, and servers in it. Made by hand, so that each test has its own security group.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use lab::Lab;
use lab::cloud::{FloatingIp, SecurityRule, Session};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::json;

/// What a server sends or takes in one go.
pub const PAYLOAD: usize = 4 << 20;
/// Ports that every guest listens on.
pub const PORTS: [u16; 2] = [9094, 8080];
/// What answers does so within this, whatever else the machine has to do.
pub const ANSWERS: Duration = Duration::from_secs(20);
/// What does not answer is waited for so long.
pub const SILENT: Duration = Duration::from_secs(1);

/// See the module; its port, group and address end with it.
pub struct Guest<'a> {
    lab: &'a Lab,
    pub name: String,
    pub fixed: Ipv4Addr,
    pub port: String,
    pub group: String,
    namespace: File,
    floating: Option<FloatingIp>,
}

/// Runs `work` in a thread of its own, which may change its namespaces.
pub fn aside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl<'a> Guest<'a> {
    /// `last` is the last byte of its address; addresses below 20 are not given to pods.
    pub fn new(lab: &'a Lab, last: u8, rules: &[SecurityRule]) -> Self {
        let name = format!("guest-{last}");
        let fixed = Ipv4Addr::new(10, 128, 0, last);
        let demo = lab.cloud().demo().expect("a session");
        let facts = lab.cloud().facts();
        remove_leftovers(&demo, &name);
        let group = demo.create_security_group(&name).expect("a group");
        for rule in rules {
            demo.add_rule(&group, rule).expect("a rule");
        }
        let attributes = json!({"network_id": facts.pod_network_id, "name": format!("test/{name}"), "security_groups": [group],
            "fixed_ips": [{"subnet_id": facts.pod_subnet_id, "ip_address": fixed}]});
        let port = demo.create_port(&attributes).expect("a port").id;
        let namespace = aside(|| make_namespace(lab, &name, fixed));
        let guest = Self { lab, name, fixed, port, group, namespace, floating: None };
        for port in PORTS {
            guest.listen(port);
        }
        guest
    }

    /// Allocates an address and binds it; returns when the network has it.
    pub fn bind(&mut self) -> Ipv4Addr {
        let demo = self.lab.cloud().demo().expect("a session");
        let network = &self.lab.cloud().facts().external_network_id;
        let made = demo.create_floating_ip(network, &self.name, Some(&self.port)).expect("a floating IP");
        self.lab.cloud().settle().expect("the router follows");
        self.floating.insert(made).floating_ip_address
    }

    /// The address as it was when it was bound.
    pub fn floating(&self) -> &FloatingIp {
        self.floating.as_ref().expect("an address")
    }

    /// Runs `work` in the guest's network.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        aside(|| {
            setns(&self.namespace, CloneFlags::CLONE_NEWNET).expect("enter the guest");
            work()
        })
    }

    /// Everyone who connects is told who answers and as whom it is seen; then its first byte is obeyed.
    fn listen(&self, port: u16) {
        let listener = self.inside(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a listener"));
        let name = self.name.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let name = name.clone();
                std::thread::spawn(move || serve(stream, &name));
            }
        });
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        // The servers' sockets keep the namespace, so its cable is pulled.
        let name = &self.name;
        aside(|| self.lab.enter_network().is_ok() && unplug(name));
        let Ok(demo) = self.lab.cloud().demo() else { return };
        let address = self.floating.as_ref().map_or(Ok(()), |fip| demo.delete_floating_ip(&fip.id));
        let port = demo.delete_port(&self.port);
        let group = demo.network("DELETE", &format!("/security-groups/{}", self.group), None);
        for error in [address.err(), port.err(), group.err()].into_iter().flatten() {
            eprintln!("{}: {error}", self.name);
        }
    }
}

fn unplug(name: &str) -> bool {
    Command::new("ip").args(["link", "del", name]).output().is_ok_and(|output| output.status.success())
}

/// What a test that was cut off has left.
fn remove_leftovers(demo: &Session, name: &str) {
    for (path, collection) in [("ports?name=test/", "ports"), ("security-groups?name=", "security_groups")] {
        let list = demo.network("GET", &format!("/{path}{name}"), None).expect("a list");
        for id in list[collection].as_array().into_iter().flatten().filter_map(|thing| thing["id"].as_str()) {
            let path = format!("/{}/{id}", collection.replace('_', "-"));
            demo.network("DELETE", &path, None).expect("deleted");
        }
    }
}

fn make_namespace(lab: &Lab, name: &str, fixed: Ipv4Addr) -> File {
    let ip = |arguments: String| {
        let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip runs");
        assert!(status.success(), "ip {arguments}");
    };
    lab.enter_network().expect("the lab's network");
    unplug(name);
    let outside = File::open("/proc/thread-self/ns/net").expect("the lab's network");
    unshare(CloneFlags::CLONE_NEWNET).expect("a network");
    let inside = File::open("/proc/thread-self/ns/net").expect("the guest's network");
    ip("link set lo up".to_owned());
    // The same for each guest with this address: others still know the one of the guest before.
    let [a, b, c, d] = fixed.octets();
    let mac = format!("0a:58:{a:02x}:{b:02x}:{c:02x}:{d:02x}");
    ip(format!(
        "link add eth0 address {mac} type veth peer name {name} netns {}",
        lab.sandbox().holder().pid
    ));
    ip(format!("addr add {fixed}/22 dev eth0"));
    ip("link set eth0 up".to_owned());
    ip("route add default via 10.128.0.1".to_owned());
    setns(&outside, CloneFlags::CLONE_NEWNET).expect("the lab's network");
    ip(format!("link set {name} master cni0"));
    // As the bridge plugin has it: a pod may talk to itself by way of an address of the cluster or the cloud.
    ip(format!("link set {name} type bridge_slave hairpin on"));
    ip(format!("link set {name} up"));
    inside
}

fn serve(mut stream: TcpStream, name: &str) -> Option<()> {
    let peer = stream.peer_addr().ok()?.ip();
    stream.write_all(format!("{name} {peer}\n").as_bytes()).ok()?;
    let mut order = [0_u8];
    stream.read_exact(&mut order).ok()?;
    match order[0] {
        b'd' => stream.write_all(&vec![0; PAYLOAD]).ok(),
        b'u' => {
            let taken = std::io::copy(&mut stream, &mut std::io::sink()).ok()?;
            stream.write_all(format!("{taken}\n").as_bytes()).ok()
        }
        _ => loop {
            stream.write_all(&order).ok()?;
            stream.read_exact(&mut order).ok()?;
        },
    }
}

/// A connection to a guest, and the line it said.
pub fn connect(address: impl Into<std::net::IpAddr>, port: u16) -> std::io::Result<(TcpStream, String)> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address.into(), port), ANSWERS)?;
    stream.set_read_timeout(Some(ANSWERS))?;
    let mut line = String::new();
    let mut byte = [0_u8];
    while line.len() < 100 {
        stream.read_exact(&mut byte)?;
        if byte[0] == b'\n' {
            break;
        }
        line.push(char::from(byte[0]));
    }
    Ok((stream, line))
}

/// Whether a byte comes back.
pub fn echoes(stream: &mut TcpStream) -> bool {
    let mut back = [0_u8];
    stream.set_read_timeout(Some(Duration::from_secs(5))).is_ok()
        && stream.write_all(b"e").is_ok()
        && stream.read_exact(&mut back).is_ok()
}

/// Mbit/s of the payload, towards the guest or from it: the best of several, because what else the machine does at the
/// moment slows one down and makes none faster.
pub fn speed(address: Ipv4Addr, towards: bool) -> f64 {
    (0..3).map(|_| measured(address, towards)).fold(0.0, f64::max)
}

fn measured(address: Ipv4Addr, towards: bool) -> f64 {
    let (mut stream, _) = connect(address, PORTS[0]).expect("a connection");
    let start = std::time::Instant::now();
    let mut answer = Vec::new();
    if towards {
        stream.write_all(b"u").and_then(|()| stream.write_all(&vec![0; PAYLOAD])).expect("an upload");
        stream.shutdown(Shutdown::Write).expect("the end of the upload");
        stream.read_to_end(&mut answer).expect("an answer");
        assert_eq!(String::from_utf8_lossy(&answer).trim(), PAYLOAD.to_string());
    } else {
        stream.write_all(b"d").expect("an order");
        stream.read_to_end(&mut answer).expect("a download");
        assert_eq!(answer.len(), PAYLOAD);
    }
    PAYLOAD as f64 * 8.0 / 1e6 / start.elapsed().as_secs_f64()
}
