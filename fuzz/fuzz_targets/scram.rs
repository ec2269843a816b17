#![no_main]

kafka_external_access_fuzz::target!(scram);
