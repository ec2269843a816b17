import java.io.File;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.atomic.AtomicLong;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.serialization.LongDeserializer;
import org.apache.kafka.common.serialization.LongSerializer;

/**
 * An in-cluster application that must notice nothing: an idempotent producer with acks=all and a consumer group.
 * It runs until the file /tmp/stop exists, then reads the whole log and says, as one line of JSON, whether every
 * acknowledged record is in the log exactly once, whether committed offsets ever went back, which errors reached the
 * application. Two things are counted apart, which are no error of the application while more brokers are away than its
 * topics can do without, and which may not happen while at most one is: a commit that came too late because the group had
 * expelled its consumer ("expelled": no coordinator answered for longer than the session's time; it is back with its next
 * poll), and a record or a commit that the client's own time ran out for ("timedOut").
 * Exit code 0: nothing was noticed.
 *
 * usage: Witness BOOTSTRAP TOPIC PARTITIONS
 */
public final class Witness {
    private static final File STOP = new File("/tmp/stop");
    /** Between two batches, and between two commits: without it, one application keeps three brokers busy. */
    private static final long PAUSE_MS = 100;
    private static final ConcurrentLinkedQueue<String> ERRORS = new ConcurrentLinkedQueue<>();
    private static final ConcurrentMap<Long, String> ACKNOWLEDGED = new ConcurrentHashMap<>();
    private static final AtomicLong CONSUMED = new AtomicLong();
    private static final AtomicLong WENT_BACK = new AtomicLong();
    private static final AtomicLong EXPELLED = new AtomicLong();
    private static final AtomicLong TIMED_OUT = new AtomicLong();
    private static final AtomicLong LONGEST_PAUSE_MS = new AtomicLong();

    public static void main(String[] args) throws Exception {
        String bootstrap = args[0];
        String topic = args[1];
        int partitions = Integer.parseInt(args[2]);
        createTopic(bootstrap, topic, partitions);
        Thread producer = start("producer", () -> produce(bootstrap, topic, partitions));
        Thread consumer = start("consumer", () -> consume(bootstrap, topic));
        System.out.println("started");
        producer.join();
        consumer.join();
        report(bootstrap, topic, partitions);
    }

    private interface Work {
        void run() throws Exception;
    }

    private static Thread start(String name, Work work) {
        Thread thread = new Thread(() -> {
            try {
                work.run();
            } catch (Exception e) {
                ERRORS.add(name + ": " + e);
            }
        }, name);
        thread.start();
        return thread;
    }

    private static Properties client(String bootstrap) {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("key.serializer", LongSerializer.class.getName());
        p.put("value.serializer", LongSerializer.class.getName());
        p.put("key.deserializer", LongDeserializer.class.getName());
        p.put("value.deserializer", LongDeserializer.class.getName());
        return p;
    }

    private static void createTopic(String bootstrap, String topic, int partitions) throws Exception {
        try (Admin admin = Admin.create(client(bootstrap))) {
            NewTopic wanted = new NewTopic(topic, partitions, (short) 3).configs(Map.of("min.insync.replicas", "2"));
            admin.createTopics(List.of(wanted)).all().get();
        } catch (ExecutionException e) {
            if (!(e.getCause() instanceof TopicExistsException)) {
                throw e;
            }
        }
    }

    private static void produce(String bootstrap, String topic, int partitions) throws Exception {
        Properties p = client(bootstrap);
        p.put("acks", "all");
        p.put("enable.idempotence", "true");
        p.put("linger.ms", "5");
        p.put("delivery.timeout.ms", "120000");
        long last = System.nanoTime();
        try (KafkaProducer<Long, Long> producer = new KafkaProducer<>(p)) {
            for (long n = 0; !STOP.exists(); n++) {
                long number = n;
                producer.send(new ProducerRecord<>(topic, (int) (n % partitions), n, n), (where, error) -> {
                    if (error instanceof TimeoutException) {
                        TIMED_OUT.incrementAndGet();
                    } else if (error != null) {
                        ERRORS.add("send " + number + ": " + error);
                    } else {
                        ACKNOWLEDGED.put(number, where.partition() + ":" + where.offset());
                    }
                });
                if (n % 20 == 0) {
                    producer.flush();
                    long now = System.nanoTime();
                    LONGEST_PAUSE_MS.accumulateAndGet((now - last) / 1_000_000, Math::max);
                    last = now;
                    Thread.sleep(PAUSE_MS);
                }
            }
        }
    }

    private static void consume(String bootstrap, String topic) throws Exception {
        Properties p = client(bootstrap);
        p.put("group.id", topic + "-group");
        p.put("auto.offset.reset", "earliest");
        p.put("enable.auto.commit", "false");
        // A machine that is busy for a while must not look like a consumer that is gone.
        p.put("session.timeout.ms", "60000");
        p.put("default.api.timeout.ms", "120000");
        Map<TopicPartition, Long> committed = new HashMap<>();
        try (KafkaConsumer<Long, Long> consumer = new KafkaConsumer<>(p)) {
            consumer.subscribe(List.of(topic));
            while (!STOP.exists()) {
                CONSUMED.addAndGet(consumer.poll(Duration.ofMillis(200)).count());
                Map<TopicPartition, OffsetAndMetadata> now;
                try {
                    consumer.commitSync();
                    now = consumer.committed(consumer.assignment());
                } catch (CommitFailedException e) {
                    EXPELLED.incrementAndGet();
                    continue;
                } catch (TimeoutException e) {
                    TIMED_OUT.incrementAndGet();
                    continue;
                }
                Thread.sleep(PAUSE_MS);
                for (Map.Entry<TopicPartition, OffsetAndMetadata> e : now.entrySet()) {
                    if (e.getValue() == null) {
                        continue;
                    }
                    Long before = committed.put(e.getKey(), e.getValue().offset());
                    if (before != null && before > e.getValue().offset()) {
                        WENT_BACK.incrementAndGet();
                    }
                }
            }
        }
    }

    private static void report(String bootstrap, String topic, int partitions) {
        Map<Long, Integer> seen = new HashMap<>();
        try (KafkaConsumer<Long, Long> consumer = new KafkaConsumer<>(client(bootstrap))) {
            List<TopicPartition> all = new ArrayList<>();
            for (int i = 0; i < partitions; i++) {
                all.add(new TopicPartition(topic, i));
            }
            consumer.assign(all);
            consumer.seekToBeginning(all);
            Map<TopicPartition, Long> end = consumer.endOffsets(all);
            while (all.stream().anyMatch(t -> consumer.position(t) < end.get(t))) {
                for (ConsumerRecord<Long, Long> record : consumer.poll(Duration.ofMillis(500))) {
                    seen.merge(record.value(), 1, Integer::sum);
                }
            }
        }
        long lost = ACKNOWLEDGED.keySet().stream().filter(n -> !seen.containsKey(n)).count();
        long twice = seen.values().stream().filter(count -> count > 1).count();
        String errors = String.join("; ", new ArrayList<>(ERRORS).subList(0, Math.min(ERRORS.size(), 5)));
        System.out.println("{\"acknowledged\":" + ACKNOWLEDGED.size() + ",\"lost\":" + lost + ",\"duplicated\":" + twice
                + ",\"consumed\":" + CONSUMED + ",\"offsetsWentBack\":" + WENT_BACK + ",\"expelled\":" + EXPELLED
                + ",\"timedOut\":" + TIMED_OUT
                + ",\"longestPauseMs\":" + LONGEST_PAUSE_MS
                + ",\"errorCount\":" + ERRORS.size() + ",\"errors\":\"" + errors.replace("\\", "/").replace("\"", "'") + "\"}");
        long noticed = lost + twice + WENT_BACK.get() + EXPELLED.get() + TIMED_OUT.get() + ERRORS.size();
        System.exit(noticed == 0 ? 0 : 1);
    }
}
