//! The endpoint as machines meet it, with real TLS on this machine: those that may ask, those that may not, and those that
//! only want to be in the way.

use std::{
    fs,
    net::SocketAddr,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use futures::{FutureExt, future::join_all};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{
    Endpoint, Limits,
    stage::{Authority, MISSING, PATH, Setup, TOKEN, pairs, start},
};
use crate::domain::AccessKey;

#[tokio::test]
async fn the_token_of_an_object_opens_its_names_and_those_only_of_brokers_that_have_answered() {
    let setup = start("good", |_| {}).await;
    let (status, body) = setup.get(PATH, TOKEN).await;
    assert_eq!((status, body), (200, json!({"ageSeconds": 0, "pairs": pairs()})));
    assert_eq!(setup.get(MISSING, TOKEN).await.0, 404);
    assert_eq!(
        setup.ask("GET", PATH, &format!("authorization: bearer  {TOKEN}\r\n")).await.get(9..12),
        Some("200")
    );
    assert_eq!(
        setup.ask("DELETE", PATH, &format!("Authorization: Bearer {TOKEN}\r\n")).await.get(9..12),
        Some("405")
    );
    assert_eq!(setup.cluster.reads(), 3);
}

#[tokio::test]
async fn without_the_token_every_answer_is_the_same_and_nothing_is_read() {
    let setup = start("refused", |_| {}).await;
    let refused = setup.ask("GET", PATH, "").await;
    assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
    let other = "/v1/namespaces/other/kafkaexternalaccesses/kafka/hosts";
    let unknown = "/v1/namespaces/nobody/kafkaexternalaccesses/kafka/hosts";
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    for (method, path, authorization) in [
        ("GET", MISSING, ""),
        ("GET", unknown, ""),
        ("GET", "/", ""),
        ("GET", "/metrics", &right),
        ("POST", PATH, ""),
        ("GET", other, &right),
        ("GET", unknown, &right),
        ("GET", "/v1/namespaces/ydata%2Fkafkaexternalaccesses/kafka/hosts", &right),
        ("GET", "/v1/namespaces/ydata/kafkaexternalaccesses/../kafkaexternalaccesses/kafka/hosts", &right),
        ("GET", PATH, "Authorization: Bearer another-8d2b6c1e90aa4c8d9f02a1b2c3d4e5f6\r\n"),
        ("GET", PATH, &format!("Authorization: Bearer {}\r\n", &TOKEN[1..])),
        ("GET", PATH, &format!("Authorization: Bearer {TOKEN}x\r\n")),
        ("GET", PATH, &format!("Authorization: Basic {TOKEN}\r\n")),
        ("GET", PATH, &format!("Authorization: {TOKEN}\r\n")),
        ("GET", PATH, "Authorization: Bearer \r\n"),
        ("GET", PATH, &format!("X-Token: {TOKEN}\r\n")),
        ("GET", &format!("{PATH}?token={TOKEN}"), ""),
    ] {
        assert_eq!(setup.ask(method, path, authorization).await, refused, "{method} {path}");
    }
    assert_eq!(setup.cluster.reads(), 0);
}

#[tokio::test]
async fn while_the_api_server_is_away_what_was_known_is_told_with_its_age() {
    let setup = start("away", |_| {}).await;
    setup.cluster.away.store(true, Ordering::SeqCst);
    assert_eq!(setup.get(PATH, TOKEN).await.0, 503, "nothing is known");
    setup.cluster.away.store(false, Ordering::SeqCst);
    assert_eq!(setup.get(PATH, TOKEN).await.0, 200);
    setup.cluster.away.store(true, Ordering::SeqCst);
    loop {
        let (status, told) = setup.get(PATH, TOKEN).await;
        assert_eq!((status, &told["pairs"]), (200, &pairs()));
        if told["ageSeconds"].as_u64().expect("an age") > 0 {
            break;
        }
        setup.clock.sleep(Duration::from_millis(50)).await;
    }
    // An object that is gone is not told for ever.
    setup.cluster.away.store(false, Ordering::SeqCst);
    setup.cluster.objects.lock().expect("no panic").clear();
    assert_eq!(setup.get(PATH, TOKEN).await.0, 404);
    setup.cluster.away.store(true, Ordering::SeqCst);
    assert_eq!(setup.get(PATH, TOKEN).await.0, 503);
}

#[tokio::test]
async fn many_machines_cost_one_reading() {
    let setup = start("many", |limits| limits.fresh = Duration::from_secs(3600)).await;
    let answers = join_all((0..40).map(|_| setup.get(PATH, TOKEN))).await;
    assert!(answers.iter().all(|(status, _)| *status == 200));
    assert_eq!(setup.cluster.reads(), 1);
}

#[tokio::test]
async fn plain_http_is_not_answered() {
    let setup = start("plain", |_| {}).await;
    let mut tcp = setup.tcp().await;
    let request = format!("GET {PATH} HTTP/1.1\r\nHost: names\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    let _ = tcp.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP"), "{answer:?}");
    assert_eq!(setup.cluster.reads(), 0);
}

#[tokio::test]
async fn a_giant_request_is_cut_off_and_a_giant_body_is_not_read() {
    let setup = start("giant", |_| {}).await;
    let mut head = format!("GET {PATH} HTTP/1.1\r\nHost: names\r\nAuthorization: Bearer {TOKEN}\r\nX: ");
    head.extend(std::iter::repeat_n('x', 1 << 20));
    head.push_str("\r\n\r\n");
    let answer = setup.bytes(head.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let line = format!("GET /{} HTTP/1.1\r\nHost: names\r\n\r\n", "x".repeat(1 << 20));
    let answer = setup.bytes(line.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert_eq!(setup.cluster.reads(), 0);
    let length = format!("Content-Length: 100000000000\r\nAuthorization: Bearer {TOKEN}\r\n");
    let answer = setup.ask("GET", PATH, &length).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn who_is_slow_is_cut_off_and_does_not_keep_others_out_for_long() {
    let setup = start("slow", |limits| {
        limits.connections = 2;
        limits.connection = Duration::from_millis(500);
    })
    .await;
    // One says nothing, and one half of a request, with the right token: both places are taken.
    let mut silent = setup.tcp().await;
    let mut half = setup.tls().await.expect("TLS");
    let head = format!("GET {PATH} HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\n");
    half.write_all(head.as_bytes()).await.expect("written");
    let (silent, half, good) = tokio::join!(
        async { silent.read_to_end(&mut Vec::new()).await.unwrap_or_default() },
        async {
            let mut answer = Vec::new();
            let _ = half.read_to_end(&mut answer).await;
            answer.len()
        },
        setup.get(PATH, TOKEN)
    );
    assert_eq!((silent, half, good.0), (0, 0, 200));
    assert_eq!(setup.cluster.reads(), 1);
}

#[tokio::test]
async fn an_api_server_that_never_answers_is_given_up() {
    let setup = start("patience", |_| {}).await;
    let read = Box::new(|_: AccessKey| std::future::pending().boxed());
    let limits = Limits { reading: Duration::from_millis(50), ..Limits::default() };
    let endpoint = Endpoint::new(setup.endpoint.files.clone(), read, limits, setup.clock.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut setup = setup;
    setup.at = listener.local_addr().expect("an address");
    tokio::spawn(Arc::new(endpoint).serve(listener));
    assert_eq!(setup.get(PATH, TOKEN).await.0, 503);
}

#[tokio::test]
async fn certificate_and_tokens_are_replaced_while_it_runs() {
    let mut setup = start("rotated", |_| {}).await;
    let files = setup.endpoint.files.clone();
    let fresh = "fresh-55aa0c1de7724b0f9c3e1da1b2c3d4e5f6";
    fs::write(files.tokens.join("ydata.kafka"), format!("{TOKEN}\n{fresh}\n")).expect("a file");
    setup.endpoint.look();
    assert_eq!((setup.get(PATH, TOKEN).await.0, setup.get(PATH, fresh).await.0), (200, 200));
    fs::write(files.tokens.join("ydata.kafka"), fresh).expect("a file");
    setup.endpoint.look();
    assert_eq!((setup.get(PATH, TOKEN).await.0, setup.get(PATH, fresh).await.0), (401, 200));

    // A key that does not belong to the certificate, as between two writes: the old pair goes on.
    let next = Authority::new();
    let (certificate, secret) = next.signed();
    fs::write(&files.certificate, certificate).expect("a file");
    setup.endpoint.look();
    assert_eq!(setup.get(PATH, fresh).await.0, 200, "with the authority of before");
    fs::write(&files.key, secret).expect("a file");
    setup.endpoint.look();
    assert!(setup.tls().await.is_err(), "it has another certificate");
    setup.authority = next;
    assert_eq!(setup.get(PATH, fresh).await.0, 200);
    fs::remove_file(&files.certificate).expect("removed");
    fs::remove_dir_all(&files.tokens).expect("removed");
    setup.endpoint.look();
    assert_eq!(setup.get(PATH, fresh).await.0, 401, "no folder, no rights");
}

#[tokio::test]
async fn without_a_certificate_nobody_is_answered_until_there_is_one() {
    let setup = start("late", |_| {}).await;
    let files = setup.endpoint.files.clone();
    let secret = fs::read(&files.key).expect("a file");
    fs::write(&files.key, "").expect("a file");
    let read = Box::new(|_: AccessKey| async { Ok(None) }.boxed());
    let endpoint = Arc::new(Endpoint::new(files.clone(), read, setup.endpoint.limits, setup.clock.clone()));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut setup = setup;
    setup.at = listener.local_addr().expect("an address");
    tokio::spawn(endpoint.clone().serve(listener));
    assert!(setup.tls().await.is_err());
    fs::write(&files.key, secret).expect("a file");
    endpoint.look();
    assert_eq!(setup.get(PATH, TOKEN).await.0, 404);
}

#[tokio::test]
async fn a_machine_asks_with_its_files_and_trusts_its_authority_only() {
    let setup = start("machine", |_| {}).await;
    let authority = setup.authority.0.pem();
    assert_eq!(setup.machine(&format!("\n{TOKEN}\n"), &authority).await, Ok(Some(1)));
    let refused = setup.machine("wrong-0000000000000000000000000", &authority).await.expect_err("refused");
    assert!(refused.contains("does not take the token of") && !refused.contains("wrong"), "{refused}");
    let empty = setup.machine("\n", &authority).await.expect_err("empty");
    assert!(empty.contains("holds no token"), "{empty}");
    let nothing = setup.machine(TOKEN, "x").await.expect_err("no authority");
    assert!(nothing.contains("holds no PEM certificate"), "{nothing}");
    let reads = setup.cluster.reads();
    let stranger = setup.machine(TOKEN, &Authority::new().0.pem()).await.expect_err("a stranger");
    assert!(stranger.contains("certificate"), "{stranger}");
    setup.cluster.objects.lock().expect("no panic").clear();
    assert_eq!((setup.machine(TOKEN, &authority).await, setup.cluster.reads()), (Ok(None), reads + 1));
    setup.cluster.away.store(true, Ordering::SeqCst);
    let away = setup.machine(TOKEN, &authority).await.expect_err("away");
    assert!(away.contains("does not reach the API server"), "{away}");
}

/// A server with the right certificate that answers everybody like this.
async fn impostor(setup: &Setup, answer: &'static [u8], repeat: usize) -> SocketAddr {
    let config = setup.endpoint.lock().tls.clone().expect("a certificate");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut tls) = tokio_rustls::TlsAcceptor::from(config.clone()).accept(tcp).await else {
                continue;
            };
            let _ = tls.read(&mut [0; 4096]).await;
            for part in std::iter::once(answer).chain(std::iter::repeat_n(&[b'x'; 1024][..], repeat)) {
                if tls.write_all(part).await.is_err() {
                    break;
                }
            }
            let _ = tls.shutdown().await;
        }
    });
    at
}

#[tokio::test]
async fn a_machine_follows_no_redirect_and_reads_no_endless_answer() {
    let mut setup = start("impostor", |_| {}).await;
    let (authority, real) = (setup.authority.0.pem(), setup.at);
    let elsewhere: &'static str = Box::leak(
        format!("HTTP/1.1 307 x\r\nLocation: https://{real}{PATH}\r\nContent-Length: 0\r\n\r\n").into(),
    );
    for (answer, repeat, told) in [
        (elsewhere, 0, "it answers 307"),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", 1024, "its answer is larger than 256 KiB"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", 0, "it answers nonsense"),
    ] {
        setup.at = impostor(&setup, answer.as_bytes(), repeat).await;
        let error = setup.machine(TOKEN, &authority).await.expect_err("not told");
        assert!(error.contains(told), "{error}");
    }
    assert_eq!(setup.cluster.reads(), 0);
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_token_is_logged_at_any_level() {
    let log = Log::default();
    let writer = log.clone();
    let everything = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    // Of this thread, which all tasks of this test run on.
    let _guard = tracing::subscriber::set_default(everything);
    let setup = start("logged", |_| {}).await;
    setup.cluster.away.store(true, Ordering::SeqCst);
    assert_eq!(setup.get(PATH, TOKEN).await.0, 503);
    assert_eq!(setup.get("/nowhere", TOKEN).await.0, 401);
    assert!(setup.bytes(format!("{TOKEN}\r\n\r\n").as_bytes()).await.starts_with("HTTP/1.1 400"));
    fs::write(setup.endpoint.files.tokens.join("ydata.kafka"), format!("{TOKEN} and more")).expect("a file");
    setup.endpoint.look();
    setup.endpoint.look();
    let authority = setup.authority.0.pem();
    setup.machine(TOKEN, &authority).await.expect_err("refused");
    let log = String::from_utf8(log.0.lock().expect("no panic").clone()).expect("text");
    for told in ["names are told as they were before", "refused", "could not be answered"] {
        assert!(log.contains(told), "{told}: {log}");
    }
    assert_eq!(log.matches("a token has 32 to 512 visible characters").count(), 1, "told once: {log}");
    assert!(!log.contains("canary"), "{log}");
}
