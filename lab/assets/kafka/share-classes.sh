#!/bin/sh
# Run once in a network of its own while the image is built: a broker starts and ends, and the classes that it loaded
# are kept. A broker that maps them uses half the processor time until it serves.
archive=-XX:ArchiveClassesAtExit=/opt/kafka/classes.jsa
if [ -f /opt/kafka/config/zookeeper.properties ]; then
  CLASS_ARCHIVE=-Xshare:auto /opt/kafka/bin/zookeeper-server-start.sh /opt/kafka/config/zookeeper.properties >/tmp/zookeeper.log 2>&1 &
  set -- /opt/kafka/config/server.properties --override zookeeper.connect=127.0.0.1:2181 --override listeners=PLAINTEXT://127.0.0.1:9092
else
  config=/tmp/server.properties
  sed 's/localhost/127.0.0.1/; s#//:#//127.0.0.1:#g' /etc/kafka/docker/server.properties >$config
  CLASS_ARCHIVE=-Xshare:auto /opt/kafka/bin/kafka-run-class.sh kafka.tools.StorageTool format -t MkU3OEVBNTcwNTJENDM2Qg -c $config >/tmp/format.log 2>&1
  set -- $config
fi
CLASS_ARCHIVE=$archive /opt/kafka/bin/kafka-server-start.sh "$@" >/tmp/broker.log 2>&1 &
broker=$!
for _ in $(seq 120); do
  grep -q '\] started\|Server started' /tmp/broker.log && break
  sleep 0.5
done
kill $broker
wait $broker
rm -rf /tmp/* /var/lib/kafka /var/lib/zookeeper
[ -f /opt/kafka/classes.jsa ]
