use std::path::PathBuf;
use std::time::Duration;

use crate::addresses::{API_SERVER_PORT, POD_GATEWAY, POD_SUBNET, SERVICE_SUBNET};
use crate::error::{Result, write_file};
use crate::kubernetes::{Cluster, flag};
use crate::process::{Part, Readiness};
use crate::sandbox::Sandbox;
use crate::template::fill;

const AUDIT_POLICY: &str = include_str!("../../assets/kubernetes/audit-policy.yaml");
const COREDNS_RIGHTS: &str = include_str!("../../assets/kubernetes/coredns-rights.yaml");
const COREFILE: &str = include_str!("../../assets/kubernetes/Corefile");
const ETCD_CLIENT: &str = "http://127.0.0.1:12379";
const ETCD_PEER: &str = "http://127.0.0.1:12380";
const START_LIMIT: Duration = Duration::from_secs(90);

/// etcd, the API server, the controllers, the scheduler and the cluster DNS.
impl Cluster {
    /// Where the API server writes what was asked of it, one JSON object a line: requests of users and of programs under test, not those of the cluster's own parts.
    #[must_use]
    pub fn audit_log(sandbox: &Sandbox) -> PathBuf {
        sandbox.paths().logs().join("audit.json")
    }

    /// Starts what does not run and waits until the API server and the DNS answer. The pods' router must have its address.
    pub fn start_control_plane(&self) -> Result<()> {
        self.etcd()?;
        let api_server = self.api_server()?;
        api_server
            .wait_until(START_LIMIT, || self.kubectl().args(["get", "--raw", "/readyz"]).text().into())?;
        self.daemon("kube-controller-manager")
            .args([
                flag("kubeconfig", &self.pki.kubeconfig("controller-manager").display().to_string()),
                flag("service-account-private-key-file", &self.pki.file("service-account.key")),
                flag("root-ca-file", &self.pki.file("ca.crt")),
                flag("cluster-cidr", POD_SUBNET),
                "--use-service-account-credentials".to_owned(),
                "--leader-elect=false".to_owned(),
                "--bind-address=127.0.0.1".to_owned(),
            ])
            .start()?;
        self.daemon("kube-scheduler")
            .args([
                flag("kubeconfig", &self.pki.kubeconfig("scheduler").display().to_string()),
                "--leader-elect=false".to_owned(),
                "--bind-address=127.0.0.1".to_owned(),
            ])
            .start()?;
        self.dns()
    }

    fn etcd(&self) -> Result<Part> {
        let data = self.sandbox.paths().part("etcd")?;
        self.daemon("etcd")
            .args([
                flag("data-dir", &data.display().to_string()),
                flag("listen-client-urls", ETCD_CLIENT),
                flag("advertise-client-urls", ETCD_CLIENT),
                flag("listen-peer-urls", ETCD_PEER),
                flag("initial-advertise-peer-urls", ETCD_PEER),
                flag("initial-cluster", &format!("default={ETCD_PEER}")),
                // The lab's data need not survive a power failure.
                "--unsafe-no-fsync".to_owned(),
            ])
            .start()
    }

    fn api_server(&self) -> Result<Part> {
        let policy = self.sandbox.paths().part("kubernetes")?.join("audit-policy.yaml");
        write_file(&policy, AUDIT_POLICY)?;
        let pki = |name| self.pki.file(name);
        self.daemon("kube-apiserver")
            .args([
                flag("etcd-servers", ETCD_CLIENT),
                flag("secure-port", &API_SERVER_PORT.to_string()),
                "--bind-address=0.0.0.0".to_owned(),
                flag("advertise-address", POD_GATEWAY),
                flag("service-cluster-ip-range", SERVICE_SUBNET),
                "--authorization-mode=Node,RBAC".to_owned(),
                "--allow-privileged".to_owned(),
                flag("client-ca-file", &pki("ca.crt")),
                flag("tls-cert-file", &pki("apiserver.crt")),
                flag("tls-private-key-file", &pki("apiserver.key")),
                flag("kubelet-client-certificate", &pki("admin.crt")),
                flag("kubelet-client-key", &pki("admin.key")),
                "--kubelet-preferred-address-types=InternalIP".to_owned(),
                "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
                flag("service-account-key-file", &pki("service-account.pub")),
                flag("service-account-signing-key-file", &pki("service-account.key")),
                flag("audit-policy-file", &policy.display().to_string()),
                flag("audit-log-path", &Self::audit_log(&self.sandbox).display().to_string()),
                "--audit-log-mode=blocking".to_owned(),
            ])
            .start()
    }

    fn dns(&self) -> Result<()> {
        self.kubectl().args(["apply", "-f", "-"]).text_with_input(COREDNS_RIGHTS.as_bytes())?;
        let corefile = self.sandbox.paths().part("kubernetes")?.join("Corefile");
        let kubeconfig = self.pki.kubeconfig("coredns").display().to_string();
        write_file(&corefile, fill(COREFILE, &[("dns", POD_GATEWAY), ("kubeconfig", &kubeconfig)]))?;
        let part =
            self.daemon("coredns").args(["-conf".to_owned(), corefile.display().to_string()]).start()?;
        part.wait_until(START_LIMIT, || {
            let look = || std::net::TcpStream::connect((POD_GATEWAY, 53));
            match self.sandbox.in_network(|| Ok(look())) {
                Ok(Ok(_)) => Readiness::Ready,
                Ok(Err(error)) => Readiness::NotYet(error.to_string()),
                Err(error) => Readiness::NotYet(error.to_string()),
            }
        })
    }
}
