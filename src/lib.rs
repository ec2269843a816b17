//! Gives every Kafka broker a floating IP for life.
//!
//! One reconcile is one straight road: `api` (wanted) -> [`observe`] (all reading) -> [`plan`] (decides; pure) ->
//! [`act`] (all writing) -> [`report`] (status, events). `use` points one way only:
//! `domain <- reach, seams <- cloud | kafka | kubernetes | listeners`, `domain <- api <- plan`,
//! `{plan, those} <- observe, act, report <- controller <- main`; a test fails when one breaks it.

pub mod act;
pub mod api;
pub mod check;
pub mod cli;
pub mod cloud;
pub mod controller;
pub mod domain;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod hosts;
pub mod kafka;
pub mod kubernetes;
pub mod listeners;
pub mod observe;
pub mod plan;
pub mod preview;
pub mod reach;
pub mod report;
pub mod runtime;
pub mod seams;
pub mod verify;
