//! Gives every Kafka broker a floating IP for life.
