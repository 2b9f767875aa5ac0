// Reads the lines of dump_messages with Kafka's own message classes and writes each message again:
// the bytes must be the same. Says how many lines and message kinds it saw; exits with 1 when one
// of them was not understood or came out different, with 2 when there were none.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;

public class ReadBack {
    private static final String[] PACKAGES = {
        "org.apache.kafka.common.message",
        "org.apache.kafka.common.metadata",
        "org.apache.kafka.coordinator.group.generated",
        "org.apache.kafka.coordinator.transaction.generated",
        "org.apache.kafka.coordinator.share.generated",
        "org.apache.kafka.raft.generated",
        "org.apache.kafka.server.log.remote.metadata.storage.generated",
        "org.apache.kafka.storage.internals.log",
        "org.apache.kafka.server.log.generated",
        "org.apache.kafka.storage.generated",
        "org.apache.kafka.storage.internals.generated",
    };
    private static final Map<String, Class<?>> classes = new HashMap<>();

    private static Class<?> find(String name) {
        StringBuilder camel = new StringBuilder();
        for (String word : name.split("_"))
            camel.append(Character.toUpperCase(word.charAt(0))).append(word.substring(1));
        String kafka = camel.toString().replace("Kraft", "KRaft");
        for (String folder : PACKAGES)
            for (String suffix : new String[] {"Data", ""})
                try {
                    return Class.forName(folder + "." + kafka + suffix);
                } catch (ClassNotFoundException e) {
                    continue;
                }
        throw new IllegalStateException("no class for " + name);
    }

    /** What differs, or null. */
    private static String check(String name, short version, byte[] bytes) throws Exception {
        Class<?> kind = classes.computeIfAbsent(name, ReadBack::find);
        Message message = (Message) kind.getDeclaredConstructor().newInstance();
        ByteBuffer in = ByteBuffer.wrap(bytes);
        message.read(new ByteBufferAccessor(in), version);
        if (in.hasRemaining())
            return in.remaining() + " bytes were left over";
        ObjectSerializationCache cache = new ObjectSerializationCache();
        int size = message.size(cache, version);
        if (size != bytes.length)
            return "size " + size + " instead of " + bytes.length + " for " + message;
        ByteBuffer out = ByteBuffer.allocate(size);
        message.write(new ByteBufferAccessor(out), cache, version);
        return java.util.Arrays.equals(bytes, out.array()) ? null
            : "wrote " + HexFormat.of().formatHex(out.array()) + " for " + message;
    }

    public static void main(String[] arguments) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        int total = 0, bad = 0;
        for (String line = lines.readLine(); line != null; line = lines.readLine(), total++) {
            String[] words = line.split(" ", 3);
            String fault;
            try {
                fault = check(words[0], Short.parseShort(words[1]),
                    HexFormat.of().parseHex(words[2]));
            } catch (Exception e) {
                fault = e.toString();
            }
            if (fault != null && bad++ < 20)
                System.out.println(line + "\n    " + fault);
        }
        System.out.println("read back " + total + " messages of " + classes.size() + " kinds, "
            + bad + " differences");
        System.exit(total == 0 ? 2 : bad > 0 ? 1 : 0);
    }
}
