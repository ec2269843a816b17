//! A laboratory of real parts.
