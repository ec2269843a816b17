//! How a command talks to brokers from where it runs.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;

use crate::kafka::{Sasl, SaslMechanism, SecretText, Security, Target, Tls};

/// Protection of the listener, as a client would have it.
#[derive(Args, Clone, Debug)]
pub struct ConnectArgs {
    /// Limit for each step: seconds, as in 5 or 5s
    #[arg(long, default_value = "5s", value_parser = seconds)]
    pub timeout: Duration,
    /// PEM file of the authorities to trust; speaks TLS
    #[arg(long, env = "KAFKA_TLS_CA")]
    pub tls_ca: Option<PathBuf>,
    /// plain, scram-sha-256 or scram-sha-512; the password comes from the environment variable KAFKA_PASSWORD
    #[arg(long, env = "KAFKA_SASL", requires = "sasl_username")]
    pub sasl: Option<Mechanism>,
    /// SASL user
    #[arg(long, env = "KAFKA_SASL_USERNAME")]
    pub sasl_username: Option<String>,
}

/// SASL mechanisms of the command line.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Mechanism {
    /// PLAIN
    Plain,
    /// SCRAM-SHA-256
    #[value(name = "scram-sha-256")]
    Scram256,
    /// SCRAM-SHA-512
    #[value(name = "scram-sha-512")]
    Scram512,
}

/// Whole seconds from 1 to 300, with or without the unit.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let number =
        text.strip_suffix('s').unwrap_or(text).parse().ok().filter(|seconds| (1..=300).contains(seconds));
    number.map(Duration::from_secs).ok_or_else(|| "1s to 300s".to_owned())
}

/// Makes targets of addresses.
pub struct Dialer {
    step_timeout: Duration,
    ca: Option<Arc<str>>,
    sasl: Option<Sasl>,
}

impl ConnectArgs {
    /// Reads the file of authorities and the password; the error names the file.
    pub fn dialer(&self) -> Result<Dialer, String> {
        let read = |file: &PathBuf| {
            std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
        };
        let sasl = self.sasl.map(|mechanism| Sasl {
            mechanism: match mechanism {
                Mechanism::Plain => SaslMechanism::Plain,
                Mechanism::Scram256 => SaslMechanism::ScramSha256,
                Mechanism::Scram512 => SaslMechanism::ScramSha512,
            },
            username: self.sasl_username.clone().unwrap_or_default(),
            password: SecretText::new(std::env::var("KAFKA_PASSWORD").unwrap_or_default()),
        });
        let ca = self.tls_ca.as_ref().map(read).transpose()?.map(Arc::from);
        Ok(Dialer { step_timeout: self.timeout, ca, sasl })
    }
}

impl Dialer {
    /// The broker at this address, whose certificate must cover `name`.
    pub fn target(&self, at: SocketAddr, name: &str) -> Target {
        let tls =
            self.ca.clone().map(|ca_pem| Tls { server_name: name.to_owned(), ca_pem, identity_pem: None });
        Target { at, security: Security { tls, sasl: self.sasl.clone() }, step_timeout: self.step_timeout }
    }
}
