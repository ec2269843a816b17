//! SASL over Kafka's frames (KIP-152): PLAIN (RFC 4616) and SCRAM (RFC 5802, RFC 7677), without channel binding.

use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use kafka_protocol::{
    messages::{SaslAuthenticateRequest, SaslHandshakeRequest},
    protocol::StrBytes,
};

use super::{
    KafkaError, KafkaFault, Sasl, SaslMechanism, Step,
    wire::{Connection, Times},
};

/// Fewer make the proof of a password easy to reverse (RFC 7677 section 4; Kafka's own clients refuse them too).
const FEWEST_ITERATIONS: u32 = 4096;
/// A server may make a client work; not for ever. Kafka stores at most 16384.
const MOST_ITERATIONS: u32 = 131_072;
/// ILLEGAL_SASL_STATE: the listener has no SASL.
const NO_SASL: i16 = 34;
/// In characters, of the broker's words in a message.
const LONGEST_MESSAGE: usize = 300;

/// Authenticates the connection.
pub async fn authenticate(
    connection: &mut Connection,
    sasl: &Sasl,
    times: &mut Times,
) -> Result<(), KafkaError> {
    let mechanism = match sasl.mechanism {
        SaslMechanism::Plain => "PLAIN",
        SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
        SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
    };
    let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism));
    let reply = connection.ask(Step::Sasl, "SaslHandshake", &request, times).await?;
    if reply.error_code == NO_SASL {
        let text = "it has no SASL, and a user was given to log in with".to_owned();
        return Err(KafkaError { step: Step::Sasl, fault: KafkaFault::Protocol(text) });
    }
    if reply.error_code != 0 {
        let offered: Vec<&str> = reply.mechanisms.iter().map(|name| name.as_str()).collect();
        let offered = offered.join(", ").chars().take(LONGEST_MESSAGE).collect::<String>();
        return Err(refused(format!("{mechanism} is not offered; the listener has: {offered}")));
    }
    match sasl.mechanism {
        SaslMechanism::Plain => {
            let message = format!("\0{}\0{}", sasl.username, sasl.password.reveal());
            send(connection, sasl, message.into_bytes(), times).await.map(|_| ())
        }
        SaslMechanism::ScramSha256 => scram(connection, sasl, &SHA256, times).await,
        SaslMechanism::ScramSha512 => scram(connection, sasl, &SHA512, times).await,
    }
}

async fn scram(
    connection: &mut Connection,
    sasl: &Sasl,
    hash: &Hash,
    times: &mut Times,
) -> Result<(), KafkaError> {
    let mut random = [0_u8; 24];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| refused("no randomness".into()))?;
    let client = ScramClient::new(&sasl.username, STANDARD.encode(random));
    let server_first = send(connection, sasl, client.first().into_bytes(), times).await?;
    let (last, signature) =
        client.last(&text(&server_first)?, sasl.password.reveal(), hash).map_err(refused)?;
    let server_last = send(connection, sasl, last.into_bytes(), times).await?;
    verify(&text(&server_last)?, &signature).map_err(refused)
}

async fn send(
    connection: &mut Connection,
    sasl: &Sasl,
    message: Vec<u8>,
    times: &mut Times,
) -> Result<Bytes, KafkaError> {
    let request = SaslAuthenticateRequest::default().with_auth_bytes(message.into());
    let reply = connection.ask(Step::Sasl, "SaslAuthenticate", &request, times).await?;
    if reply.error_code != 0 {
        let message = reply.error_message.as_ref().map(|text| text.as_str()).unwrap_or_default();
        // A broker that sends the password back does not get it into a condition.
        let message = match sasl.password.reveal() {
            "" => message.to_owned(),
            secret => message.replace(secret, "(secret)"),
        };
        return Err(refused(message.chars().take(LONGEST_MESSAGE).collect()));
    }
    Ok(reply.auth_bytes)
}

fn refused(text: String) -> KafkaError {
    KafkaError { step: Step::Sasl, fault: KafkaFault::Authentication(text) }
}

fn text(bytes: &Bytes) -> Result<String, KafkaError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| refused("the broker's challenge is not text".into()))
}

struct Hash {
    hmac: hmac::Algorithm,
    digest: &'static digest::Algorithm,
    pbkdf2: pbkdf2::Algorithm,
}

static SHA256: Hash =
    Hash { hmac: hmac::HMAC_SHA256, digest: &digest::SHA256, pbkdf2: pbkdf2::PBKDF2_HMAC_SHA256 };
static SHA512: Hash =
    Hash { hmac: hmac::HMAC_SHA512, digest: &digest::SHA512, pbkdf2: pbkdf2::PBKDF2_HMAC_SHA512 };

/// What a server asks for before it believes a password.
struct Challenge<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: NonZeroU32,
}

/// The client's half of RFC 5802.
struct ScramClient {
    nonce: String,
    bare: String,
}

impl ScramClient {
    fn new(username: &str, nonce: String) -> Self {
        let escaped = username.replace('=', "=3D").replace(',', "=2C");
        Self { bare: format!("n={escaped},r={nonce}"), nonce }
    }

    fn first(&self) -> String {
        format!("n,,{}", self.bare)
    }

    /// The last message, and the signature that the server must answer with.
    fn last(&self, server_first: &str, password: &str, hash: &Hash) -> Result<(String, Vec<u8>), String> {
        let Challenge { nonce, salt, iterations } = self.challenge(server_first)?;
        let mut salted = vec![0; hash.digest.output_len()];
        pbkdf2::derive(hash.pbkdf2, iterations, &salt, password.as_bytes(), &mut salted);
        let sign = |key: &[u8], message: &[u8]| {
            hmac::sign(&hmac::Key::new(hash.hmac, key), message).as_ref().to_vec()
        };
        let client_key = sign(&salted, b"Client Key");
        let stored_key = digest::digest(hash.digest, &client_key);
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{},{server_first},{without_proof}", self.bare);
        let signature = sign(stored_key.as_ref(), signed.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let expected = sign(&sign(&salted, b"Server Key"), signed.as_bytes());
        Ok((format!("{without_proof},p={}", STANDARD.encode(proof)), expected))
    }

    /// Reads the server's first message.
    fn challenge<'a>(&self, server_first: &'a str) -> Result<Challenge<'a>, String> {
        let malformed = || "the broker's challenge is malformed".to_owned();
        let mut fields = server_first.split(',');
        let mut field = |name: &str| fields.next().and_then(|f| f.strip_prefix(name)).ok_or_else(malformed);
        let (nonce, salt, iterations) = (field("r=")?, field("s=")?, field("i=")?);
        if !nonce.starts_with(&self.nonce) || nonce == self.nonce {
            return Err("the broker's challenge is not for us".into());
        }
        let salt = STANDARD.decode(salt).map_err(|_| malformed())?;
        let iterations: NonZeroU32 = iterations.parse().map_err(|_| malformed())?;
        if !(FEWEST_ITERATIONS..=MOST_ITERATIONS).contains(&iterations.get()) {
            return Err(format!("the broker asks for {iterations} iterations"));
        }
        Ok(Challenge { nonce, salt, iterations })
    }
}

fn verify(server_last: &str, expected: &[u8]) -> Result<(), String> {
    if let Some(error) = server_last.strip_prefix("e=") {
        return Err(error.chars().take(LONGEST_MESSAGE).collect());
    }
    let signature = server_last.split(',').next().and_then(|field| field.strip_prefix("v="));
    let signature = signature.and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
    constant_time::verify_slices_are_equal(&signature, expected)
        .map_err(|_| "the broker does not know the password: it is not who it says".to_owned())
}

#[cfg(any(test, fuzzing))]
pub(super) mod fuzz {
    use super::*;

    /// A challenge that is taken is for us, and neither too easy nor too hard; only the right signature is one.
    pub fn messages(first: &str, last: &str) {
        let client = ScramClient::new("u", "abc".to_owned());
        if let Ok(Challenge { nonce, iterations, .. }) = client.challenge(first) {
            assert!(nonce.len() > 3 && nonce.starts_with("abc"), "{nonce}");
            assert!((FEWEST_ITERATIONS..=MOST_ITERATIONS).contains(&iterations.get()), "{iterations}");
        }
        let expected = [7; 32];
        match verify(last, &expected) {
            Ok(()) => {
                let signature = last.split(',').next().and_then(|field| field.strip_prefix("v="));
                assert_eq!(signature, Some(STANDARD.encode(expected).as_str()));
            }
            Err(text) => assert!(text.chars().count() <= LONGEST_MESSAGE, "{text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exchange_of_rfc_7677_is_reproduced() {
        let client = ScramClient::new("user", "rOprNGfwEbeRWgbNEkqO".into());
        let server_first =
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let (last, signature) = client.last(server_first, "pencil", &SHA256).expect("a good challenge");
        assert!(last.ends_with(",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="), "{last}");
        assert_eq!(verify("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", &signature), Ok(()));
        assert!(verify("v=AAAA", &signature).is_err());
    }

    #[test]
    fn a_hostile_challenge_is_refused() {
        let client = ScramClient::new("user", "abc".into());
        for challenge in [
            "",
            "r=abc,s=QQ==,i=4096",
            "r=xyz1,s=QQ==,i=4096",
            "r=abcd,s=QQ==,i=4000000000",
            "r=abcd,s=QQ==,i=131073",
            "r=abcd,s=QQ==,i=4095",
            "r=abcd,s=QQ==,i=0",
            "r=abcd,s=*,i=4096",
            "m=ext,r=abcd,s=QQ==,i=4096",
        ] {
            assert!(client.last(challenge, "p", &SHA256).is_err(), "{challenge}");
        }
        assert!(client.last("r=abcd,s=QQ==,i=4096", "p", &SHA256).is_ok());
    }
}
