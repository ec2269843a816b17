//! The virtual machine as a client of the API server and of the operator, which it does not reach by itself.

use std::{
    path::{Path, PathBuf},
    process::{Child, Output},
};

use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use super::{NAMESPACE, World};

/// A process that ends with what holds it, also where a test fails: left over, it would keep the output of the test
/// program open, and whoever reads that would wait for ever.
pub struct Background(pub Child);

impl Drop for Background {
    fn drop(&mut self) {
        // An error means that it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port of the virtual machine's own that leads to something in the lab's network.
fn open_a_way(world: &World, to: String) -> u16 {
    let vm = world.lab.vm().expect("the virtual machine");
    let bound = std::thread::spawn(move || {
        vm.enter_network().expect("its network can be entered");
        std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port")
    });
    let listener = bound.join().expect("bound");
    listener.set_nonblocking(true).expect("a socket");
    let port = listener.local_addr().expect("bound").port();
    let listener = TcpListener::from_std(listener).expect("a socket");
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let to = to.clone();
            tokio::spawn(async move {
                if let Ok(mut to) = TcpStream::connect(to).await {
                    let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                }
            });
        }
    });
    port
}

impl World {
    /// What the documents say: `example` makes service account `name`; a kubeconfig of it that works on the virtual machine.
    pub fn vm_account(&self, name: &str, example: &str) -> PathBuf {
        let file = format!("{}/examples/{example}", env!("CARGO_MANIFEST_DIR"));
        self.lab.kubectl(&["apply", "-f", &file]).expect("the example is accepted");
        let token = self.lab.kubectl(&["-n", NAMESPACE, "create", "token", name]).expect("a token");
        let admin = std::fs::read_to_string(&self.lab.facts().kubeconfig).expect("a kubeconfig");
        let admin: serde_json::Value = serde_json::from_str(&admin).expect("JSON");
        let mut cluster = admin["clusters"][0]["cluster"].clone();
        let server = cluster["server"].as_str().expect("a URL").trim_start_matches("https://").to_owned();
        cluster["server"] = json!(format!("https://127.0.0.1:{}", open_a_way(self, server)));
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "vm",
            "clusters": [{"name": "lab", "cluster": cluster}],
            "users": [{"name": name, "user": {"token": token.trim()}}],
            "contexts": [{"name": "vm", "context": {"cluster": "lab", "user": name, "namespace": NAMESPACE}}],
        });
        let path = self.own_file(name);
        std::fs::write(&path, kubeconfig.to_string()).expect("a kubeconfig");
        path
    }

    /// A port of the virtual machine's own that leads to `to`.
    pub fn way_to(&self, to: &str) -> u16 {
        open_a_way(self, to.to_owned())
    }

    /// Where this test may write. Tests of one process run side by side, each in a lab of its own, and the labs share the
    /// machine's files.
    pub fn own_file(&self, name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("{name}-{}-{}", self.test, std::process::id()))
    }

    /// The account has one right beside those that everybody has.
    pub fn assert_one_right(&self, name: &str) {
        let account = format!("system:serviceaccount:{NAMESPACE}:{name}");
        let rights = ["-n", NAMESPACE, "auth", "can-i", "--list", "--as", &account];
        let rights = self.lab.kubectl(&rights).expect("rights");
        let own: Vec<&str> =
            rights.lines().filter(|line| !line.contains("self") && !line.starts_with(' ')).collect();
        assert_eq!(own.len(), 2, "a heading, and one right: {rights}");
    }

    /// Removes what [`Self::vm_account`] has made.
    pub fn remove_vm_account(&self, name: &str, kubeconfig: &Path) {
        std::fs::remove_file(kubeconfig).expect("the kubeconfig is removed");
        let label = format!("app={name}");
        let gone = ["-n", NAMESPACE, "delete", "configmap,role,rolebinding,serviceaccount", "-l", &label];
        self.lab.kubectl(&gone).expect("what the example made is removed");
    }

    /// What a shell line on the virtual machine does.
    pub fn vm_shell(&self, line: &str) -> Output {
        let vm = self.lab.vm().expect("the virtual machine");
        vm.command("sh").args(["-c", line]).output().expect("it runs")
    }
}
