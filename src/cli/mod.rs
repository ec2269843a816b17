//! What the commands for people share.

pub mod connect;
