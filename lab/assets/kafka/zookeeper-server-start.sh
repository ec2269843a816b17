#!/bin/sh
exec /opt/java/bin/java ${KAFKA_HEAP_OPTS:--Xms64m -Xmx64m} -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
  -cp '/opt/kafka/config:/opt/kafka/libs/*' org.apache.zookeeper.server.quorum.QuorumPeerMain "$@"
