#!/bin/sh
# Runs a class of Kafka's jars, or a source file, with classes that were loaded once when the image was built.
exec /opt/java/bin/java ${KAFKA_HEAP_OPTS:--Xmx128m} -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
  ${CLASS_ARCHIVE:--XX:SharedArchiveFile=/opt/kafka/classes.jsa} \
  ${KAFKA_LOG4J_OPTS:-} -cp "$(cat /opt/kafka/classpath)" "$@"
