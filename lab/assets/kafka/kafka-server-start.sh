#!/bin/sh
exec /opt/java/bin/java ${KAFKA_HEAP_OPTS:--Xms256m -Xmx256m} -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
  -cp '/opt/kafka/config:/opt/kafka/libs/*' kafka.Kafka "$@"
