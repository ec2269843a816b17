//! `clouds.yaml`, as the OpenStack tools read it (openstacksdk, "Configuring OpenStack SDK Applications"), as far as
//! a service needs it. Every mistake gets a sentence.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{cloud::Credential, kafka::SecretText};

const LARGEST: usize = 256 * 1024;

/// One cloud: where, as whom, and whom to trust.
#[derive(Clone, Debug)]
pub struct CloudConfig {
    /// Keystone's URL with `/v3`.
    pub auth_url: reqwest::Url,
    /// As whom.
    pub identity: Identity,
    /// Region of the catalogue; needed where it has several.
    pub region: Option<String>,
    /// `public`, `internal` or `admin`.
    pub interface: String,
    /// PEM certificates to trust besides the public ones.
    pub ca_pem: Option<String>,
}

/// As whom to log in.
#[derive(Clone, Debug)]
pub enum Identity {
    /// User and password, scoped to a project.
    Password {
        /// The user.
        user: Name,
        /// The password.
        password: SecretText,
        /// The project.
        project: Name,
    },
    /// An application credential; it carries its project.
    ApplicationCredential {
        /// Identifier, or name together with its user.
        credential: ApplicationCredential,
        /// Its secret.
        secret: SecretText,
    },
}

impl Identity {
    /// What must never be shown.
    pub fn secret(&self) -> &SecretText {
        match self {
            Self::Password { password: secret, .. } | Self::ApplicationCredential { secret, .. } => secret,
        }
    }
}

/// An application credential by identifier, or by name and user.
#[derive(Clone, Debug)]
pub enum ApplicationCredential {
    /// By identifier.
    Id(String),
    /// By name, of this user.
    Name(String, Name),
}

/// A user or project: an identifier, or a name within a domain.
#[derive(Clone, Debug)]
pub enum Name {
    /// By identifier.
    Id(String),
    /// By name within a domain.
    Named {
        /// The name.
        name: String,
        /// The domain.
        domain: Domain,
    },
}

/// A domain.
#[derive(Clone, Debug)]
pub enum Domain {
    /// By identifier.
    Id(String),
    /// By name.
    Name(String),
}

/// What is wrong with a `clouds.yaml`, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigProblem {
    /// Larger than any sensible file.
    #[error("clouds.yaml is larger than {} KiB", LARGEST / 1024)]
    TooLarge,
    /// Not YAML, or not the known structure.
    #[error("clouds.yaml cannot be read: {0}")]
    NotYaml(String),
    /// No entry of that name.
    #[error("clouds.yaml has no cloud \"{wanted}\"; it has: {present}")]
    NoSuchCloud {
        /// The entry asked for.
        wanted: String,
        /// The entries there are.
        present: String,
    },
    /// A key is missing.
    #[error("clouds.yaml: add {0} to the cloud's auth section")]
    Missing(&'static str),
    /// A value that is not served.
    #[error("clouds.yaml: {0}")]
    Refused(String),
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    clouds: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    auth_type: Option<String>,
    #[serde(default)]
    auth: Auth,
    region_name: Option<String>,
    interface: Option<String>,
    verify: Option<bool>,
    insecure: Option<bool>,
    profile: Option<String>,
    cacert: Option<String>,
}

#[derive(Default, Deserialize)]
struct Auth {
    auth_url: Option<String>,
    username: Option<String>,
    user_id: Option<String>,
    password: Option<String>,
    user_domain_name: Option<String>,
    user_domain_id: Option<String>,
    project_name: Option<String>,
    project_id: Option<String>,
    project_domain_name: Option<String>,
    project_domain_id: Option<String>,
    domain_name: Option<String>,
    domain_id: Option<String>,
    application_credential_id: Option<String>,
    application_credential_name: Option<String>,
    application_credential_secret: Option<String>,
}

/// Reads the entry that the credential names.
pub fn parse(credential: &Credential) -> Result<CloudConfig, ConfigProblem> {
    if credential.clouds_yaml.len() > LARGEST {
        return Err(ConfigProblem::TooLarge);
    }
    let mut file: File = serde_saphyr::from_str(&credential.clouds_yaml)
        .map_err(|error| ConfigProblem::NotYaml(place_of(&error)))?;
    let Some(entry) = file.clouds.remove(&credential.cloud_name) else {
        let present = file.clouds.into_keys().collect::<Vec<_>>().join(", ");
        return Err(ConfigProblem::NoSuchCloud { wanted: credential.cloud_name.clone(), present });
    };
    refuse_what_is_not_served(&entry, credential)?;
    Ok(CloudConfig {
        auth_url: auth_url(&entry.auth)?,
        identity: identity(entry.auth_type.as_deref(), entry.auth)?,
        region: entry.region_name,
        interface: entry
            .interface
            .map_or_else(|| "public".to_owned(), |i| i.trim_end_matches("URL").to_owned()),
        ca_pem: credential.cacert.clone(),
    })
}

/// Only where, never what: the text of a parser may quote a password.
fn place_of(error: &serde_saphyr::Error) -> String {
    match error.location() {
        Some(at) => format!("line {}, column {}", at.line(), at.column()),
        None => "it is not the expected structure (clouds: NAME: auth: ...)".to_owned(),
    }
}

fn refuse_what_is_not_served(entry: &Entry, credential: &Credential) -> Result<(), ConfigProblem> {
    let refused = |text: &str| Err(ConfigProblem::Refused(text.to_owned()));
    if entry.verify == Some(false) || entry.insecure == Some(true) {
        return refused(
            "verify: false and insecure: true are not served; put the authority's certificate into the Secret's key cacert",
        );
    }
    if entry.profile.is_some() {
        return refused("profiles are not served; write the profile's values into the cloud");
    }
    if entry.cacert.is_some() && credential.cacert.is_none() {
        return refused(
            "cacert names a file, which the operator cannot see; put its content into the Secret's key cacert",
        );
    }
    if entry
        .interface
        .as_deref()
        .is_some_and(|i| !["public", "internal", "admin"].contains(&i.trim_end_matches("URL")))
    {
        return refused("interface must be public, internal or admin");
    }
    Ok(())
}

fn auth_url(auth: &Auth) -> Result<reqwest::Url, ConfigProblem> {
    let text = auth.auth_url.as_deref().ok_or(ConfigProblem::Missing("auth_url"))?;
    endpoint(text, "/v3").ok_or_else(|| {
        ConfigProblem::Refused(
            "auth_url must be an http or https URL without a user, a query or a fragment in it".to_owned(),
        )
    })
}

/// A URL that calls go to, with the version at the end of its path. A user in it would be sent along, and shown with it; a query would join those of the calls.
pub fn endpoint(text: &str, version: &str) -> Option<reqwest::Url> {
    let mut url = reqwest::Url::parse(text).ok()?;
    let plain = url.username().is_empty() && url.password().is_none();
    let plain = plain && url.query().is_none() && url.fragment().is_none();
    if !["http", "https"].contains(&url.scheme()) || !url.has_host() || !plain {
        return None;
    }
    let path = url.path().trim_end_matches('/');
    let path = if path.ends_with(version) { path.to_owned() } else { format!("{path}{version}") };
    url.set_path(&path);
    Some(url)
}

fn identity(auth_type: Option<&str>, auth: Auth) -> Result<Identity, ConfigProblem> {
    let by_credential =
        auth.application_credential_id.is_some() || auth.application_credential_name.is_some();
    match auth_type {
        Some("v3applicationcredential") => application_credential(auth),
        Some("password" | "v3password") => password(auth),
        None if by_credential => application_credential(auth),
        None => password(auth),
        Some(other) => {
            let shown: String = other.chars().take(40).collect();
            Err(ConfigProblem::Refused(format!(
                "auth_type {shown} is not served; use password or v3applicationcredential"
            )))
        }
    }
}

fn password(auth: Auth) -> Result<Identity, ConfigProblem> {
    let password = auth.password.clone().ok_or(ConfigProblem::Missing("password"))?;
    let user = user(&auth)?;
    let domain = domain(auth.project_domain_id, auth.project_domain_name, auth.domain_id, auth.domain_name);
    let project = match (auth.project_id, auth.project_name) {
        (Some(id), _) => Name::Id(id),
        (None, Some(name)) => Name::Named { name, domain },
        (None, None) => return Err(ConfigProblem::Missing("project_name or project_id")),
    };
    Ok(Identity::Password { user, password: SecretText::new(password), project })
}

fn application_credential(auth: Auth) -> Result<Identity, ConfigProblem> {
    let secret = auth.application_credential_secret.clone();
    let secret = secret.ok_or(ConfigProblem::Missing("application_credential_secret"))?;
    let credential = match (&auth.application_credential_id, &auth.application_credential_name) {
        (Some(id), _) => ApplicationCredential::Id(id.clone()),
        (None, Some(name)) => ApplicationCredential::Name(name.clone(), user(&auth)?),
        (None, None) => return Err(ConfigProblem::Missing("application_credential_id")),
    };
    Ok(Identity::ApplicationCredential { credential, secret: SecretText::new(secret) })
}

fn user(auth: &Auth) -> Result<Name, ConfigProblem> {
    match (&auth.user_id, &auth.username) {
        (Some(id), _) => Ok(Name::Id(id.clone())),
        (None, Some(name)) => Ok(Name::Named {
            name: name.clone(),
            domain: domain(
                auth.user_domain_id.clone(),
                auth.user_domain_name.clone(),
                auth.domain_id.clone(),
                auth.domain_name.clone(),
            ),
        }),
        (None, None) => Err(ConfigProblem::Missing("username or user_id")),
    }
}

/// The domain of a user or project; without any, Keystone's own default.
fn domain(
    id: Option<String>,
    name: Option<String>,
    shared_id: Option<String>,
    shared_name: Option<String>,
) -> Domain {
    match (id, name, shared_id, shared_name) {
        (Some(id), ..) => Domain::Id(id),
        (None, Some(name), ..) => Domain::Name(name),
        (None, None, Some(id), _) => Domain::Id(id),
        (None, None, None, Some(name)) => Domain::Name(name),
        (None, None, None, None) => Domain::Id("default".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(clouds_yaml: &str) -> Result<CloudConfig, ConfigProblem> {
        parse(&Credential {
            namespace: "ydata".into(),
            secret: "openstack".into(),
            version: "1".into(),
            cloud_name: "dev".into(),
            clouds_yaml: clouds_yaml.into(),
            cacert: None,
        })
    }

    const PASSWORD: &str = "clouds: {dev: {auth: {auth_url: 'https://cloud:5000', username: u, password: secret, project_name: p}}}";

    #[test]
    fn a_password_entry_gets_v3_and_the_default_domain() {
        let config = read(PASSWORD).expect("it is right");
        assert_eq!(config.auth_url.as_str(), "https://cloud:5000/v3");
        assert_eq!(config.interface, "public");
        let Identity::Password { project: Name::Named { domain: Domain::Id(domain), .. }, .. } =
            config.identity
        else {
            panic!("a password identity");
        };
        assert_eq!(domain, "default");
    }

    #[test]
    fn an_application_credential_is_recognised_without_auth_type() {
        let text = "clouds: {dev: {auth: {auth_url: 'http://cloud/v3/', application_credential_id: i, application_credential_secret: s}}}";
        let config = read(text).expect("it is right");
        assert_eq!(config.auth_url.as_str(), "http://cloud/v3");
        assert!(matches!(
            config.identity,
            Identity::ApplicationCredential { credential: ApplicationCredential::Id(_), .. }
        ));
    }

    #[test]
    fn every_mistake_has_a_sentence_and_none_shows_a_secret() {
        let cases = [
            ("clouds: [", "cannot be read"),
            ("clouds: {prod: {}}", "no cloud \"dev\"; it has: prod"),
            ("clouds: {dev: {auth: {username: u}}}", "auth_url"),
            (&PASSWORD.replace("password: secret, ", ""), "add password"),
            (&PASSWORD.replace(", project_name: p", ""), "add project_name"),
            (
                &PASSWORD.replace("dev: {", "dev: {verify: false, "),
                "verify: false and insecure: true are not served",
            ),
            (
                &PASSWORD.replace("dev: {", "dev: {insecure: true, "),
                "verify: false and insecure: true are not served",
            ),
            (&PASSWORD.replace("https://", "https://u:secret@"), "without a user,"),
            (&PASSWORD.replace("cloud:5000", "cloud:5000?a=b"), "a query or a fragment in it"),
            // Found by the fuzzer: the version had become the host.
            (&PASSWORD.replace("https://cloud:5000", "https://"), "http or https URL"),
            (&PASSWORD.replace("cloud:5000", "cloud:5000#a"), "a query or a fragment in it"),
            (&PASSWORD.replace("dev: {", "dev: {profile: 'https://x', "), "profiles are not served"),
            (&PASSWORD.replace("dev: {", "dev: {cacert: /etc/ca.pem, "), "key cacert"),
            (&PASSWORD.replace("dev: {", "dev: {auth_type: v3kerberos, "), "v3kerberos is not served"),
            (&PASSWORD.replace("https://", "ftp://"), "http or https"),
        ];
        for (text, expected) in cases {
            let problem = read(text).expect_err(text).to_string();
            assert!(problem.contains(expected), "{text}: {problem}");
            assert!(!problem.contains("secret"), "{problem}");
        }
        assert!(!format!("{:?}", read(PASSWORD)).contains("secret"));
    }
}
