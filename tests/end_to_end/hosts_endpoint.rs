//! A virtual machine that has a token and no kubeconfig: the operator tells it the brokers' names.

use std::{
    path::{Path, PathBuf},
    process::Output,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::{
    hosts::{all_by_name, all_moved, without_addresses},
    operator::Operator,
    world::{READY, World, in_lab},
};

const TEST: &str = "hosts_endpoint";
/// Where the two replicas tell names.
const LISTEN: [&str; 2] = ["127.0.0.1:18443", "127.0.0.1:18444"];
const TOKEN: &str = "canary-0123456789abcdef0123456789abcdef";
const NEXT: &str = "canary-fedcba9876543210fedcba9876543210";

/// Files of the operator and of the machine.
struct Files(PathBuf);

impl Files {
    fn write(world: &World) -> Self {
        let folder = world.own_file("endpoint");
        std::fs::create_dir_all(folder.join("tokens")).expect("a folder");
        let mut authority = CertificateParams::new(Vec::new()).expect("a name");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = || KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(authority, key()).expect("an authority");
        let (own, params) = (key(), CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name"));
        let certificate = params.signed_by(&own, &authority).expect("a certificate");
        let files = Self(folder);
        files.put("ca.crt", &authority.pem());
        files.put("tls.crt", &certificate.pem());
        files.put("tls.key", &own.serialize_pem());
        files.put("tokens/ydata.kafka", TOKEN);
        files.put("token", TOKEN);
        files
    }

    fn put(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).expect("a file");
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }

    fn replica(&self, world: &World, replica: usize) -> Operator {
        let flag = |name: &str, value: &str| format!("--hosts-{name}={value}");
        let more = [
            flag("listen", LISTEN[replica]),
            flag("certificate", &self.path("tls.crt")),
            flag("key", &self.path("tls.key")),
            flag("tokens", &self.path("tokens")),
        ];
        Operator::start_with(world.lab, TEST, replica, &more)
    }
}

/// The machine, and a way from it to one of the replicas.
struct Machine<'a> {
    world: &'a World,
    files: &'a Files,
    port: u16,
}

impl Machine<'_> {
    fn hosts(&self, more: &[&str]) -> Output {
        let vm = self.world.lab.vm().expect("the virtual machine");
        let from = format!("https://127.0.0.1:{}", self.port);
        let (token, authority) = (self.files.path("token"), self.files.path("ca.crt"));
        let files = ["--from", &from, "--token-file", &token, "--ca-file", &authority];
        let program = vm.command(env!("CARGO_BIN_EXE_kafka-external-access"));
        let program = program.args(["hosts", "ydata/kafka"]).args(files).args(more);
        program.env("KUBECONFIG", Path::new("/nonexistent")).output().expect("it runs")
    }

    fn assert_code(&self, more: &[&str], code: i32) -> Output {
        let output = self.hosts(more);
        assert_eq!(output.status.code(), Some(code), "{more:?}: {output:?}");
        output
    }
}

#[test]
fn a_machine_with_a_token_and_without_a_kubeconfig_follows_the_pods_by_any_replica() {
    in_lab(TEST, async |world| {
        let files = Files::write(world);
        let first = files.replica(world, 0);
        first.wait_until_it_leads();
        let second = files.replica(world, 1);
        let before = without_addresses(world).await;
        let machine = |replica: usize| {
            let port = world.way_to(LISTEN[replica]);
            Machine { world, files: &files, port }
        };
        let (leader, follower) = (machine(0), machine(1));
        assert!(first.leads() && !second.leads());

        let once = leader.assert_code(&["--once"], 0);
        assert_eq!(String::from_utf8_lossy(&once.stdout).lines().count(), 3, "three new pairs: {once:?}");
        follower.assert_code(&["--check"], 0);
        all_by_name(world).await;

        let all = ["-n", crate::world::NAMESPACE, "delete", "pod", "-l", "app=kafka"];
        world.lab.kubectl(&all).expect("pods can be deleted");
        all_moved(world, &before).await;
        follower.assert_code(&["--check"], 1);
        follower.assert_code(&["--once"], 0);
        leader.assert_code(&["--check"], 0);
        all_by_name(world).await;

        // Another token, while both run. The machine and the operator read their files again.
        files.put("token", NEXT);
        let refused = leader.assert_code(&["--once"], 1);
        let told = String::from_utf8_lossy(&refused.stderr);
        assert!(told.contains("the operator does not tell: it does not take the token of"), "{told}");
        // The file stays.
        all_by_name(world).await;
        files.put("tokens/ydata.kafka", NEXT);
        world
            .eventually("both replicas take the new token", READY, async || {
                let outputs = [leader.hosts(&["--check"]), follower.hosts(&["--check"])];
                if outputs.iter().all(|output| output.status.success()) { Ok(()) } else { Err(outputs) }
            })
            .await;

        first.kill();
        follower.assert_code(&["--check"], 0);
        let log = second.log();
        assert!(log.contains("refused") && !log.contains("canary"), "the log of both has no token");
        follower.assert_code(&["--remove"], 0);
        second.wait_until_it_leads();
        world.delete().await;
        std::fs::remove_dir_all(&files.0).expect("removed");
    });
}
