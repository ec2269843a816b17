#![no_main]

kafka_external_access_fuzz::target!(clouds_yaml);
