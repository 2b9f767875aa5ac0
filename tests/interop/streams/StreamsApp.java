import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * Two applications of Kafka Streams: words ADDRESS, and ledger ADDRESS.
 *
 * Both take a record apart into several with other keys (a repartition topic), and keep a value for
 * each key (a store in memory with its changelog topic). Words counts words, at least once. Ledger
 * moves amounts between accounts, exactly once: "from to amount" becomes an entry for each of the two
 * accounts, and each entry becomes "number balance" of its account, so that an entry that was booked
 * twice, or never, shows in the numbers.
 *
 * SIGTERM closes the application. Whatever goes wrong inside ends it with status 1.
 */
public final class StreamsApp {
    private static final Duration CLOSE = Duration.ofSeconds(20);

    private StreamsApp() {
    }

    private static Materialized<String, String, KeyValueStore<Bytes, byte[]>> store(String name) {
        return Materialized.<String, String>as(Stores.inMemoryKeyValueStore(name))
            .withKeySerde(Serdes.String()).withValueSerde(Serdes.String());
    }

    private static void words(StreamsBuilder builder) {
        builder.<String, String>stream("lines")
            .flatMapValues(line -> Arrays.asList(line.split(" ")))
            .groupBy((key, word) -> word)
            .aggregate(() -> "0", (word, same, count) -> "" + (Long.parseLong(count) + 1),
                store("counts"))
            .toStream().to("words");
    }

    private static List<KeyValue<String, String>> entries(String transfer) {
        String[] word = transfer.split(" ");
        return List.of(KeyValue.pair(word[0], "-" + word[2]), KeyValue.pair(word[1], word[2]));
    }

    private static String book(String balance, String amount) {
        String[] word = balance.split(" ");
        return Long.parseLong(word[0]) + 1 + " "
            + (Long.parseLong(word[1]) + Long.parseLong(amount));
    }

    private static void ledger(StreamsBuilder builder) {
        builder.<String, String>stream("transfers")
            .flatMap((key, transfer) -> entries(transfer))
            .groupByKey()
            .aggregate(() -> "0 0", (account, amount, balance) -> book(balance, amount),
                store("balances"))
            .toStream().to("booked");
    }

    private static Properties settings(String name, String address) {
        Properties p = new Properties();
        p.put(StreamsConfig.APPLICATION_ID_CONFIG, name);
        p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, address);
        p.put(StreamsConfig.STATE_DIR_CONFIG, "state-" + name);
        p.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        p.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        p.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0); // every update is to be seen
        p.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
        p.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        p.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        // after a kill the members and transactions of the killed must end soon
        p.put(StreamsConfig.consumerPrefix("session.timeout.ms"), 2500);
        p.put(StreamsConfig.consumerPrefix("heartbeat.interval.ms"), 300);
        p.put(StreamsConfig.producerPrefix("transaction.timeout.ms"), 2500);
        for (String ms : List.of("reconnect.backoff.max.ms", "retry.backoff.max.ms")) {
            p.put(ms, 200);
        }
        if (name.equals("ledger")) {
            p.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        }
        return p;
    }

    public static void main(String[] argument) {
        StreamsBuilder builder = new StreamsBuilder();
        if (argument[0].equals("words")) {
            words(builder);
        } else {
            ledger(builder);
        }
        KafkaStreams streams = new KafkaStreams(builder.build(),
            settings(argument[0], argument[1]));
        streams.setStateListener((now, before) -> {
            System.out.println("state " + now);
            if (now == KafkaStreams.State.ERROR) {
                Runtime.getRuntime().halt(1);
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            if (!streams.close(CLOSE)) {
                Runtime.getRuntime().halt(1);
            }
            Runtime.getRuntime().halt(0); // or the status would be the signal's
        }));
        streams.start();
    }
}
