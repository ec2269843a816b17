#!/bin/sh
# Runs a class of Kafka's jars, or a source file, with classes that were loaded once when the image was built.
# What the virtual machine itself has to say goes to stderr: stdout belongs to the class.
exec /opt/java/bin/java -Xlog:disable -Xlog:all=warning:stderr ${KAFKA_HEAP_OPTS:--Xmx128m} -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
  ${CLASS_ARCHIVE:--XX:SharedArchiveFile=/opt/kafka/classes.jsa} \
  ${KAFKA_LOG4J_OPTS:-} ${KAFKA_OPTS:-} -cp "$(cat /opt/kafka/classpath)" "$@"
