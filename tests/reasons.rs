//! `docs/reasons.md` is made from the list of reasons in the code.

use std::fmt::Write;

use kafka_external_access::api::conditions::Reason;
use strum::IntoEnumIterator;

#[test]
fn the_list_of_reasons_is_current() {
    let mut page = "# Reasons\n\nGenerated from the code by `make generate`. Each can stand in a condition, at a broker, or in an event.\n\n| reason | what it means | what to do |\n|---|---|---|\n".to_owned();
    for reason in Reason::iter() {
        writeln!(page, "| `{reason}` | {} | {} |", reason.meaning(), reason.remedy())
            .expect("a String can be written");
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reasons.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(file, &page).expect("docs can be written");
    }
    let committed = std::fs::read_to_string(file).unwrap_or_default();
    assert!(committed == page, "docs/reasons.md is not current; run: make generate");
}
