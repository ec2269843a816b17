//! A listener by the pod template: for KRaft, where no version changes it live, and for everybody who wants it in the
//! template. Brokers restart, one after the other, and only where the user has said so (`rollout: Restart`).
//!
//! | file | decides |
//! |---|---|
//! | `dialect.rs` | where a container states Kafka's settings, and how one is changed there |
//! | `template.rs` | the pod template with our listener, the one before it, and the patch between two |
//! | `strategy.rs` | the update strategy while our roll runs |
//! | `file.rs` | the ConfigMap with what each broker advertises, read by the broker when it starts |
//! | `gate.rs` | which broker may restart now |

pub mod dialect;
pub mod file;
pub mod gate;
pub mod strategy;
pub mod template;
