//! The operator's endpoint as a machine asks it. The files are read again each time, so whoever changes them restarts
//! nothing.

use std::path::{Path, PathBuf};

use clap::Args;
use reqwest::{
    Certificate, Client, Response, Url,
    header::{AUTHORIZATION, HeaderValue},
    redirect::Policy,
};

use super::told::{self, Told};
use crate::domain::{AccessKey, innermost};

/// In bytes; 256 pairs of the longest names are a third of it.
const LARGEST_REPLY: usize = 256 * 1024;

/// Ask the operator instead of the API server
#[derive(Args, Clone, Debug, Default)]
pub struct EndpointArgs {
    /// Ask the operator's endpoint at this URL, https://HOST:PORT, and not the API server
    #[arg(long, env = "KEA_HOSTS_FROM", value_parser = https, requires = "token_file")]
    pub from: Option<Url>,
    /// File with the object's token for it
    #[arg(long, env = "KEA_HOSTS_TOKEN_FILE", requires = "from")]
    pub token_file: Option<PathBuf>,
    /// PEM file of the authorities that its certificate may be from. Default: those of the machine
    #[arg(long, env = "KEA_HOSTS_CA_FILE", requires = "from")]
    pub ca_file: Option<PathBuf>,
}

impl EndpointArgs {
    /// The endpoint, where one is to be asked.
    pub fn endpoint(&self) -> Option<Endpoint> {
        Some(Endpoint {
            url: self.from.clone()?,
            token_file: self.token_file.clone()?,
            ca_file: self.ca_file.clone(),
        })
    }
}

/// A token is not for everybody on the way.
fn https(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    let bare = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    match url.scheme() {
        "https" if bare => Ok(url),
        "https" => Err("host, port and path, and nothing else".to_owned()),
        _ => Err("only https:// is spoken, so that nobody on the way reads the token".to_owned()),
    }
}

/// An endpoint and what it is asked with.
#[derive(Clone, Debug)]
pub struct Endpoint {
    url: Url,
    token_file: PathBuf,
    ca_file: Option<PathBuf>,
}

impl Endpoint {
    /// `None`: the object does not exist. The error says what to change, and has no token in it.
    pub async fn read(&self, object: &AccessKey) -> Result<Option<Told>, String> {
        let request = self.client()?.get(self.url_of(object)).header(AUTHORIZATION, self.bearer()?);
        let response = request.send().await.map_err(|error| innermost(&error))?;
        match response.status().as_u16() {
            200 => {
                let body = bounded(response).await?;
                serde_json::from_slice(&body)
                    .map(Some)
                    .map_err(|error| format!("it answers nonsense: {error}"))
            }
            401 => {
                let file = self.token_file.display();
                Err(format!("it does not take the token of {file} for {object}"))
            }
            404 => Ok(None),
            503 => Err("it does not reach the API server".to_owned()),
            other => Err(format!("it answers {other}")),
        }
    }

    fn url_of(&self, object: &AccessKey) -> Url {
        let mut url = self.url.clone();
        // An https URL can be a base.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(told::path(object));
        }
        url
    }

    /// Neither a redirect nor a proxy: the token goes to the host that the user named and to no other.
    fn client(&self) -> Result<Client, String> {
        let mut builder = Client::builder()
            .https_only(true)
            .redirect(Policy::none())
            .no_proxy()
            .user_agent(concat!("kafka-external-access/", env!("CARGO_PKG_VERSION")));
        if let Some(file) = &self.ca_file {
            let authorities = Certificate::from_pem_bundle(read(file)?.as_bytes()).unwrap_or_default();
            if authorities.is_empty() {
                return Err(format!("{} holds no PEM certificate", file.display()));
            }
            builder = builder.tls_certs_only(authorities);
        }
        builder.build().map_err(|error| innermost(&error))
    }

    fn bearer(&self) -> Result<HeaderValue, String> {
        let text = read(&self.token_file)?;
        let token = text.lines().map(str::trim).find(|line| !line.is_empty());
        let bearer = token.and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok());
        let mut bearer = bearer.ok_or_else(|| format!("{} holds no token", self.token_file.display()))?;
        bearer.set_sensitive(true);
        Ok(bearer)
    }
}

fn read(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

async fn bounded(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| innermost(&error))? {
        if body.len() + chunk.len() > LARGEST_REPLY {
            return Err(format!("its answer is larger than {} KiB", LARGEST_REPLY >> 10));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_is_spoken_and_the_url_is_nothing_but_a_place() {
        for refused in [
            "http://names.example.com:8443",
            "names.example.com:8443",
            "ftp://names.example.com",
            "https://user@names.example.com",
            "https://:secret@names.example.com",
            "https://names.example.com/?token=x",
            "https://names.example.com/#x",
            "https://",
        ] {
            assert!(https(refused).is_err(), "{refused}");
        }
        assert!(https("http://names.example.com").is_err_and(|told| told.contains("only https://")));
    }

    #[test]
    fn the_url_may_have_a_path_that_is_put_before() {
        let object = "ydata/kafka".parse().expect("a key");
        let url_of = |base: &str| {
            let url = https(base).expect("a URL");
            Endpoint { url, token_file: PathBuf::new(), ca_file: None }.url_of(&object).to_string()
        };
        let names = "v1/namespaces/ydata/kafkaexternalaccesses/kafka/hosts";
        assert_eq!(url_of("https://a.example.com:8443"), format!("https://a.example.com:8443/{names}"));
        assert_eq!(url_of("https://a.example.com/names/"), format!("https://a.example.com/names/{names}"));
    }
}
