import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Apache Kafka's Java client: write ADDRESS, or read ADDRESS TOPIC... The records are dataset.py's. */
public final class JavaClient {
    static final int COUNT = 600, PARTITIONS = 3, WAIT_S = 40;
    static final long BEGIN_MS = 1_700_000_000_000L;

    interface Case {
        void run() throws Exception;
    }

    final String address;
    int passed, failed;

    JavaClient(String address) {
        this.address = address;
    }

    static byte[] value(int i) {
        if (i % 50 == 7) {
            return null;
        }
        int size = i == 500 ? 400_000 : i * 37 % 1500;
        String word = "torc " + i + " ";
        return word.repeat(size / word.length() + 1).substring(0, size)
            .getBytes(StandardCharsets.US_ASCII);
    }

    static byte[] key(int i) {
        return i % 50 == 9 ? new byte[0] : i % 50 == 11 ? null
            : ("key-" + i).getBytes(StandardCharsets.US_ASCII);
    }

    static long timestamp(int i) {
        return BEGIN_MS + 1000L * i;
    }

    static void expect(boolean holds, String why) {
        if (!holds) {
            throw new AssertionError(why);
        }
    }

    void attempt(String name, Case body) {
        long begin = System.nanoTime();
        try {
            body.run();
            passed++;
            System.out.printf("ok    %s: %.1f s%n", name, (System.nanoTime() - begin) / 1e9);
        } catch (Throwable e) {
            failed++;
            System.out.println("FAIL  " + name + ": " + e);
        }
    }

    static <T> T get(KafkaFuture<T> future) throws Exception {
        return future.get(WAIT_S, TimeUnit.SECONDS);
    }

    Admin admin() {
        return Admin.create(Map.of("bootstrap.servers", address));
    }

    void create(String topic, int partitions, Map<String, String> configs) throws Exception {
        try (Admin admin = admin()) {
            NewTopic wanted = new NewTopic(topic, Optional.of(partitions), Optional.empty());
            get(admin.createTopics(List.of(wanted.configs(configs))).all());
            // A broker may know a topic before it leads it. An idempotent batch refused then can be
            // overtaken by the next one in flight, and Kafka never takes it after that: so wait.
            Map<TopicPartition, OffsetSpec> ends = new HashMap<>();
            for (int p = 0; p < partitions; p++) {
                ends.put(new TopicPartition(topic, p), OffsetSpec.latest());
            }
            get(admin.listOffsets(ends).all());
        }
    }

    KafkaProducer<byte[], byte[]> producer(Map<String, Object> more) {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", address,
            "linger.ms", 20, "delivery.timeout.ms", WAIT_S * 1000, "request.timeout.ms", 10000));
        config.putAll(more);
        return new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
    }

    KafkaConsumer<byte[], byte[]> consumer(Map<String, Object> more) {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", address,
            "enable.auto.commit", false, "check.crcs", true));
        config.putAll(more);
        return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static List<TopicPartition> parts(String topic) {
        List<TopicPartition> parts = new ArrayList<>();
        for (int p = 0; p < PARTITIONS; p++) {
            parts.add(new TopicPartition(topic, p));
        }
        return parts;
    }

    void write(String codec) throws Exception {
        String topic = "java-" + codec;
        create(topic, PARTITIONS, Map.of());
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = producer(Map.of("compression.type", codec,
                "enable.idempotence", true))) {
            for (int i = 0; i < COUNT; i++) {
                ProducerRecord<byte[], byte[]> r = new ProducerRecord<>(topic, i % PARTITIONS,
                    timestamp(i), key(i), value(i));
                if (i % 50 != 13) {
                    r.headers().add("n", ("" + i).getBytes(StandardCharsets.US_ASCII));
                    r.headers().add("empty", new byte[0]);
                }
                sent.add(producer.send(r));
            }
            producer.flush();
        }
        for (int i = 0; i < COUNT; i++) {
            long offset = sent.get(i).get(WAIT_S, TimeUnit.SECONDS).offset();
            expect(offset == i / PARTITIONS, "record " + i + " got offset " + offset);
        }
    }

    static void check(ConsumerRecord<byte[], byte[]> r) {
        int i = (int) r.offset() * PARTITIONS + r.partition();
        String at = "record " + i + ": ";
        expect(Arrays.equals(r.key(), key(i)), at + "key");
        expect(Arrays.equals(r.value(), value(i)), at + "value");
        expect(r.timestamp() == timestamp(i), at + "timestamp " + r.timestamp());
        StringBuilder headers = new StringBuilder();
        for (Header h : r.headers()) {
            headers.append(h.key()).append('=').append(new String(h.value())).append(' ');
        }
        String want = i % 50 == 13 ? "" : "n=" + i + " empty= ";
        expect(headers.toString().equals(want), at + "headers " + headers);
    }

    void read(String topic) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(Map.of())) {
            List<TopicPartition> parts = parts(topic);
            consumer.assign(parts);
            consumer.seekToBeginning(parts);
            long[] expected = new long[PARTITIONS];
            int seen = 0;
            long late = System.nanoTime() + WAIT_S * 1_000_000_000L;
            while (seen < COUNT) {
                expect(System.nanoTime() < late, seen + " records for " + COUNT);
                for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofSeconds(1))) {
                    expect(r.offset() == expected[r.partition()]++, "offset " + r.offset());
                    check(r);
                    seen++;
                }
            }
            for (long end : consumer.endOffsets(parts).values()) {
                expect(end == COUNT / PARTITIONS, "end offset " + end);
            }
        }
    }

    void offsetsAndTimes() {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(Map.of())) {
            List<TopicPartition> parts = parts("java-none");
            for (long begin : consumer.beginningOffsets(parts).values()) {
                expect(begin == 0, "beginning offset " + begin);
            }
            Map<TopicPartition, Long> times = new HashMap<>();
            parts.forEach(p -> times.put(p, timestamp(300)));
            Map<TopicPartition, OffsetAndTimestamp> found = consumer.offsetsForTimes(times);
            for (TopicPartition p : parts) {
                OffsetAndTimestamp f = found.get(p);
                expect(f.offset() == 100 && f.timestamp() == timestamp(300 + p.partition()), "" + f);
            }
            times.replaceAll((p, t) -> timestamp(COUNT));
            expect(consumer.offsetsForTimes(times).values().stream().allMatch(Objects::isNull),
                "a time after the end has an offset");
            consumer.assign(parts);
            consumer.seekToEnd(parts);
            consumer.seek(parts.get(1), 150);
            ConsumerRecord<byte[], byte[]> r =
                consumer.poll(Duration.ofSeconds(WAIT_S)).iterator().next();
            expect(r.partition() == 1 && r.offset() == 150, "sought 1/150, got " + r);
        }
    }

    void outOfRange() {
        try (KafkaConsumer<byte[], byte[]> c = consumer(Map.of("auto.offset.reset", "none"))) {
            TopicPartition p = new TopicPartition("java-none", 0);
            c.assign(List.of(p));
            c.seek(p, 10_000);
            for (int n = 0; n < WAIT_S; n++) {
                c.poll(Duration.ofSeconds(1));
            }
            throw new AssertionError("an offset out of range was served");
        } catch (OffsetOutOfRangeException e) {
            expect(e.offsetOutOfRangePartitions().containsValue(10_000L), "" + e);
        }
    }

    void tooLarge() throws Exception {
        create("java-small", 1, Map.of("max.message.bytes", "1000"));
        try (KafkaProducer<byte[], byte[]> producer = producer(Map.of())) {
            producer.send(new ProducerRecord<>("java-small", new byte[5000])).get();
            throw new AssertionError("a record over max.message.bytes was taken");
        } catch (ExecutionException e) {
            expect(e.getCause() instanceof RecordTooLargeException, "" + e);
        }
    }

    void acks(String acks) throws Exception {
        create("java-acks-" + acks, 1, Map.of());
        try (KafkaProducer<byte[], byte[]> producer = producer(Map.of("acks", acks,
                "enable.idempotence", false))) {
            for (int i = 0; i < 100; i++) {
                producer.send(new ProducerRecord<>("java-acks-" + acks, key(i), value(i)));
            }
        }
        TopicPartition p = new TopicPartition("java-acks-" + acks, 0);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(Map.of())) {
            long end = -1, late = System.nanoTime() + WAIT_S * 1_000_000_000L;
            while (end != 100 && System.nanoTime() < late) {
                end = consumer.endOffsets(List.of(p)).get(p);
            }
            expect(end == 100, "end offset " + end);
        }
    }

    /** Consumer's isolation level changes nothing where there is no transaction. */
    void readCommitted() {
        try (KafkaConsumer<byte[], byte[]> c = consumer(Map.of("isolation.level",
                "read_committed"))) {
            TopicPartition p = new TopicPartition("java-none", 2);
            c.assign(List.of(p));
            c.seekToBeginning(List.of(p));
            int seen = 0;
            for (int n = 0; n < WAIT_S && seen < COUNT / PARTITIONS; n++) {
                seen += c.poll(Duration.ofSeconds(1)).count();
            }
            expect(seen == COUNT / PARTITIONS, seen + " records");
        }
    }

    void adminCalls() throws Exception {
        create("java-admin", 2, Map.of("retention.ms", "3600000"));
        ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, "java-admin");
        try (Admin admin = admin()) {
            expect(get(admin.listTopics().names()).contains("java-admin"), "not listed");
            expect(get(admin.describeTopics(List.of("java-admin")).allTopicNames())
                .get("java-admin").partitions().size() == 2, "describeTopics");
            ConfigEntry set = get(admin.describeConfigs(List.of(topic)).all()).get(topic)
                .get("retention.ms");
            expect(set.value().equals("3600000")
                && set.source() == ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, "" + set);
            get(admin.incrementalAlterConfigs(Map.of(topic, List.of(new AlterConfigOp(
                new ConfigEntry("retention.ms", "7200000"), AlterConfigOp.OpType.SET)))).all());
            long late = System.nanoTime() + WAIT_S * 1_000_000_000L;
            while (!set.value().equals("7200000") && System.nanoTime() < late) {
                set = get(admin.describeConfigs(List.of(topic)).all()).get(topic)
                    .get("retention.ms");
            }
            expect(set.value().equals("7200000"), "altered: " + set);
            get(admin.createPartitions(Map.of("java-admin", NewPartitions.increaseTo(4))).all());
            expect(get(admin.describeCluster().nodes()).size() == 1, "describeCluster");
            expect(get(admin.describeCluster().controller()) != null, "controller");
            TopicPartition p = new TopicPartition("java-none", 0);
            expect(get(admin.listOffsets(Map.of(p, OffsetSpec.maxTimestamp())).all()).get(p)
                .offset() == 199, "listOffsets max timestamp");
            expect(get(admin.describeLogDirs(List.of(1)).allDescriptions()).get(1).values()
                .iterator().next().replicaInfos().containsKey(p), "describeLogDirs");
            var producers = get(admin.describeProducers(List.of(p)).all()).get(p).activeProducers();
            expect(producers.size() == 1, "describeProducers: " + producers);
            expect(get(admin.deleteRecords(Map.of(new TopicPartition("java-admin", 0),
                RecordsToDelete.beforeOffset(0))).all()) == null, "deleteRecords");
            adminRefusals(admin);
            get(admin.deleteTopics(Set.of("java-admin")).all());
        }
    }

    void adminRefusals(Admin admin) throws Exception {
        try {
            create("java-admin", 1, Map.of());
            throw new AssertionError("a topic was created twice");
        } catch (ExecutionException e) {
            expect(e.getCause() instanceof TopicExistsException, "" + e);
        }
        try {
            get(admin.deleteTopics(Set.of("java-nowhere")).all());
            throw new AssertionError("a topic that is not there was deleted");
        } catch (ExecutionException e) {
            expect(e.getCause() instanceof UnknownTopicOrPartitionException, "" + e);
        }
    }

    public static void main(String[] words) {
        JavaClient c = new JavaClient(words[1]);
        if (words[0].equals("read")) {
            for (String topic : Arrays.copyOfRange(words, 2, words.length)) {
                c.attempt("reads " + topic, () -> c.read(topic));
            }
        } else {
            for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
                c.attempt("writes " + codec + ", idempotent", () -> c.write(codec));
            }
            c.attempt("offsets and times", c::offsetsAndTimes);
            c.attempt("out of range", c::outOfRange);
            c.attempt("too large", c::tooLarge);
            c.attempt("acks 0", () -> c.acks("0"));
            c.attempt("acks 1", () -> c.acks("1"));
            c.attempt("read committed", c::readCommitted);
            c.attempt("admin calls", c::adminCalls);
        }
        System.out.println("# passed=" + c.passed + " failed=" + c.failed + " skipped=0");
        System.exit(c.failed == 0 ? 0 : 1);
    }
}
