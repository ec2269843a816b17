use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::addresses::{POD_BRIDGE, POD_GATEWAY, POD_RANGE, POD_SUBNET};
use crate::error::{Context, Result, write_file};
use crate::kubernetes::{Cluster, NODE, flag};
use crate::process::{Daemon, Readiness};
use crate::sandbox::Sandbox;
use crate::template::fill;

const CONTAINERD: &str = include_str!("../../assets/kubernetes/containerd.toml");
const KUBELET: &str = include_str!("../../assets/kubernetes/kubelet.yaml");
const PLUGINS: &str = "/usr/lib/cni";
const SOCKET: &str = "/run/containerd/containerd.sock";
const START_LIMIT: Duration = Duration::from_secs(90);

/// A container image: its name and the archive that holds it.
#[derive(Clone, Debug)]
pub struct Image {
    /// Name and tag, as pods write it.
    pub name: String,
    /// A docker-archive file.
    pub archive: PathBuf,
}

/// containerd, the kubelet and kube-proxy.
impl Cluster {
    /// Makes the bridge of the pods with the address of their router, unless it is there.
    pub fn make_bridge(sandbox: &Sandbox) -> Result<()> {
        let ip = |args: &str| sandbox.command("ip").args(args.split(' ')).text();
        if ip(&format!("link show {POD_BRIDGE}")).is_ok() {
            return Ok(());
        }
        let prefix = POD_SUBNET.rsplit('/').next().unwrap_or_default();
        ip(&format!("link add {POD_BRIDGE} type bridge"))?;
        ip(&format!("addr add {POD_GATEWAY}/{prefix} dev {POD_BRIDGE}"))?;
        ip(&format!("link set {POD_BRIDGE} up")).map(drop)
    }

    /// Starts what does not run and waits until Kubernetes calls the node ready. `plugins` are programs of the lab that are called for each pod after the bridge
    /// plugin: CNI type and its configuration's further keys.
    pub fn start_node(&self, pause: &Image, plugins: &[(&str, serde_json::Value)]) -> Result<()> {
        let folder = self.sandbox.paths().part("kubernetes")?;
        self.configure_pod_network(&folder, plugins)?;
        self.containerd(&folder, pause)?;
        self.import(pause)?;
        let kubelet = self.kubelet(&folder)?;
        self.daemon("kube-proxy")
            .args([
                flag("kubeconfig", &self.pki.kubeconfig("proxy").display().to_string()),
                flag("hostname-override", NODE),
                "--proxy-mode=nftables".to_owned(),
                flag("cluster-cidr", POD_SUBNET),
                // The table of connections is the machine's; its size is not the lab's to set.
                "--conntrack-max-per-core=0".to_owned(),
            ])
            .start()?;
        kubelet.wait_until(START_LIMIT, || self.node_ready())
    }

    /// Makes an image known to the node, unless it is.
    pub fn import(&self, image: &Image) -> Result<()> {
        let known = self.ctr().args(["images", "list", "--quiet"]).text()?;
        if known.lines().any(|name| name == image.name) {
            return Ok(());
        }
        self.replace_image(image)
    }

    /// Makes an image known to the node, instead of one that had its name.
    pub fn replace_image(&self, image: &Image) -> Result<()> {
        self.ctr().args(["images", "import"]).arg(&image.archive).text().map(drop)
    }

    /// Forgets an image.
    pub fn remove_image(&self, name: &str) -> Result<()> {
        self.ctr().args(["images", "remove", name]).text().map(drop)
    }

    fn ctr(&self) -> crate::sandbox::Command {
        self.sandbox.command("ctr").args(["--address", SOCKET, "--namespace", "k8s.io"])
    }

    fn node_ready(&self) -> Readiness {
        let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")]}"#;
        let look = self.kubectl().args(["get", "node", NODE, "--output", path]).text();
        match look {
            Ok(condition) if condition.contains(r#""status":"True""#) => Readiness::Ready,
            Ok(condition) => Readiness::NotYet(condition),
            Err(error) => Readiness::NotYet(error.to_string()),
        }
    }

    fn configure_pod_network(&self, folder: &Path, plugins: &[(&str, serde_json::Value)]) -> Result<()> {
        let programs = folder.join("cni/bin");
        fs::create_dir_all(&programs).to(|| format!("create {}", programs.display()))?;
        for entry in fs::read_dir(PLUGINS).to(|| format!("read {PLUGINS}"))?.flatten() {
            let link = programs.join(entry.file_name());
            if !link.exists() {
                symlink(entry.path(), &link).to(|| format!("link {}", link.display()))?;
            }
        }
        // No masquerade here: the cloud's router does it, as for every other address of the pods' network.
        let mut chain = vec![serde_json::json!({
            "type": "bridge", "bridge": POD_BRIDGE, "isGateway": true, "ipMasq": false, "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": POD_SUBNET, "rangeStart": POD_RANGE.0, "rangeEnd": POD_RANGE.1, "gateway": POD_GATEWAY}]],
                "routes": [{"dst": "0.0.0.0/0"}],
                "dataDir": folder.join("cni/addresses"),
            },
        })];
        for (name, keys) in plugins {
            let program = programs.join(name);
            write_file(
                &program,
                format!("#!/bin/sh\nexec '{}' {name}\n", self.sandbox.paths().program().display()),
            )?;
            fs::set_permissions(&program, Permissions::from_mode(0o755))
                .to(|| format!("make {} executable", program.display()))?;
            let mut plugin = keys.clone();
            plugin["type"] = (*name).into();
            chain.push(plugin);
        }
        let list = serde_json::json!({"cniVersion": "0.4.0", "name": "lab", "plugins": chain});
        write_file(&folder.join("cni/conf/10-lab.conflist"), format!("{list:#}\n"))
    }

    fn containerd(&self, folder: &Path, pause: &Image) -> Result<()> {
        let root = self.sandbox.paths().part("containerd")?.display().to_string();
        let values = [
            ("root", root.as_str()),
            ("pause", &pause.name),
            ("cni_bin", &folder.join("cni/bin").display().to_string()),
            ("cni_conf", &folder.join("cni/conf").display().to_string()),
        ];
        let config = folder.join("containerd.toml");
        write_file(&config, fill(CONTAINERD, &values))?;
        let part = Daemon::new(&self.sandbox, "containerd", "containerd")
            .args(["--config".to_owned(), config.display().to_string()])
            .start()?;
        part.wait_until(START_LIMIT, || self.ctr().arg("version").text().into())
    }

    fn kubelet(&self, folder: &Path) -> Result<crate::process::Part> {
        let resolv = folder.join("resolv.conf");
        write_file(&resolv, "")?;
        let values = [
            ("pki", self.pki.folder().display().to_string()),
            ("cgroup", self.sandbox.paths().cgroup()),
            ("dns", POD_GATEWAY.to_owned()),
            ("resolv", resolv.display().to_string()),
            ("state", folder.display().to_string()),
        ];
        let config = folder.join("kubelet.yaml");
        write_file(&config, fill(KUBELET, &values.each_ref().map(|(name, value)| (*name, value.as_str()))))?;
        let root = self.sandbox.paths().part("kubelet")?;
        self.daemon("kubelet")
            .args([
                flag("config", &config.display().to_string()),
                flag("kubeconfig", &self.pki.kubeconfig("kubelet").display().to_string()),
                flag("hostname-override", NODE),
                flag("node-ip", POD_GATEWAY),
                flag("root-dir", &root.display().to_string()),
                // Only with this path, without a scheme, do the statistics of pods hold their network bytes.
                flag("containerd", SOCKET),
            ])
            .start()
    }
}
