//! The program; everything is in the library.

use std::process::ExitCode;

use kafka_external_access::cli::commands;

#[tokio::main]
async fn main() -> ExitCode {
    // One TLS provider for kube and reqwest; a second installation would be refused, and is not made.
    let _ = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default();
    commands::main(std::env::args_os().collect()).await
}
