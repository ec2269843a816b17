//! How a broker learns its address outside.
//!
//! | rollout | file | what changes | restarts |
//! |---|---|---|---|
//! | Dynamic | `dynamic.rs` | three settings stored in Kafka, per broker | none |
//! | Restart | `restart/` | the pod template, and one ConfigMap | one per broker and address |
//! | Manual | none: the user changes the same three settings | | by the user |

pub mod apply;
pub mod dynamic;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod restart;
pub mod text;
