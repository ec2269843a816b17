use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

use crate::addresses::{API_SERVER_PORT, KUBERNETES_SERVICE, POD_GATEWAY};
use crate::error::{Context, Result, write_file};
use crate::kubernetes::NODE;

/// Who somebody is for the API server: the certificate's common name is the user, its organization the group.
struct Identity {
    name: &'static str,
    user: &'static str,
    group: Option<&'static str>,
}

const CLIENTS: [Identity; 5] = [
    Identity { name: "admin", user: "admin", group: Some("system:masters") },
    Identity { name: "controller-manager", user: "system:kube-controller-manager", group: None },
    Identity { name: "scheduler", user: "system:kube-scheduler", group: None },
    Identity { name: "proxy", user: "system:kube-proxy", group: None },
    Identity { name: "coredns", user: "system:coredns", group: None },
];

/// Certificates, keys and kubeconfig files of the cluster.
#[derive(Clone, Debug)]
pub struct Pki {
    folder: PathBuf,
}

impl Pki {
    /// Makes them all, unless they were made before.
    pub fn create(folder: &Path) -> Result<Self> {
        let pki = Self { folder: folder.to_owned() };
        // Written last: with it, all else is there.
        if !pki.kubeconfig("admin").exists() {
            pki.make().map_err(std::io::Error::other).to(|| "make the cluster's certificates".to_owned())?;
        }
        Ok(pki)
    }

    /// The folder: `<name>.crt`, `<name>.key`, `<name>.kubeconfig`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file called `name` in the folder.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// The kubeconfig of one identity.
    #[must_use]
    pub fn kubeconfig(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.kubeconfig"))
    }

    fn make(&self) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let authority_key = KeyPair::generate()?;
        let mut parameters = parameters("lab-ca", None, &[])?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        write_file(&self.folder.join("ca.crt"), parameters.self_signed(&authority_key)?.pem())?;
        let authority = Issuer::new(parameters, authority_key);
        let tokens = KeyPair::generate()?;
        write_file(&self.folder.join("service-account.key"), tokens.serialize_pem())?;
        write_file(&self.folder.join("service-account.pub"), tokens.public_key_pem())?;

        let server_names = [
            "127.0.0.1",
            POD_GATEWAY,
            KUBERNETES_SERVICE,
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ];
        self.certificate("apiserver", parameters_of_server("kube-apiserver", &server_names)?, &authority)?;
        let node_user = format!("system:node:{NODE}");
        let mut node = parameters_of_server(&node_user, &[NODE, "127.0.0.1", POD_GATEWAY])?;
        node.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        self.certificate("kubelet", node, &authority)?;
        self.write_kubeconfig("kubelet")?;
        for client in CLIENTS.iter().rev() {
            self.certificate(client.name, parameters_of_client(client)?, &authority)?;
            self.write_kubeconfig(client.name)?;
        }
        Ok(())
    }

    fn certificate(
        &self,
        name: &str,
        parameters: CertificateParams,
        authority: &Issuer<'_, KeyPair>,
    ) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let key = KeyPair::generate()?;
        write_file(&self.folder.join(format!("{name}.crt")), parameters.signed_by(&key, authority)?.pem())?;
        write_file(&self.folder.join(format!("{name}.key")), key.serialize_pem())?;
        Ok(())
    }

    fn write_kubeconfig(&self, name: &str) -> Result<()> {
        // JSON is YAML; the files lie beside this one, so that relative names would do, but a copy of it must work elsewhere too.
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": {
                "server": format!("https://{POD_GATEWAY}:{API_SERVER_PORT}"),
                "certificate-authority": self.file("ca.crt"),
            }}],
            "users": [{"name": name, "user": {
                "client-certificate": self.file(&format!("{name}.crt")),
                "client-key": self.file(&format!("{name}.key")),
            }}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": name}}],
            "current-context": "lab",
        });
        write_file(&self.kubeconfig(name), format!("{config:#}\n"))
    }
}

fn parameters(
    user: &str,
    group: Option<&str>,
    names: &[&str],
) -> std::result::Result<CertificateParams, rcgen::Error> {
    let mut parameters = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, user);
    if let Some(group) = group {
        parameters.distinguished_name.push(DnType::OrganizationName, group);
    }
    Ok(parameters)
}

fn parameters_of_client(client: &Identity) -> std::result::Result<CertificateParams, rcgen::Error> {
    let mut parameters = parameters(client.user, client.group, &[])?;
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(parameters)
}

fn parameters_of_server(user: &str, names: &[&str]) -> std::result::Result<CertificateParams, rcgen::Error> {
    let mut parameters = parameters(user, None, names)?;
    parameters.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(parameters)
}
