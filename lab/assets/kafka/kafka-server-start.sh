#!/bin/sh
export KAFKA_HEAP_OPTS="${KAFKA_HEAP_OPTS:--Xms256m -Xmx256m}"
export KAFKA_LOG4J_OPTS=-Dlog4j.configuration=file:/opt/kafka/config/log4j.properties
exec /opt/kafka/bin/kafka-run-class.sh kafka.Kafka "$@"
