//! What every fuzz target has: the parser of its name, and a limit of memory.

use std::alloc::System;

use cap::Cap;

/// For the parser and all it calls: an input of some KiB has no business with more.
const MOST_BYTES: usize = 512 << 20;

/// An allocation beyond the limit fails, which ends the process, which is a finding.
#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, MOST_BYTES);

pub use libfuzzer_sys;

/// The program of a target of `kafka_external_access::fuzzing`.
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        $crate::libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kafka_external_access::fuzzing::$name(bytes));
    };
}
