import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs many of Kafka's command-line tools in one JVM, because starting one for each call costs more
 * than all of their work.
 *
 * A call is one line on standard input: seconds allowed, class, standard input and arguments, each in
 * base64 between tabs. Its answer is one line: exit status, standard output, standard error, so too.
 * As in a JVM of its own, a tool ends when it calls Exit or when its last thread that is no daemon
 * does, and then its shutdown hooks run. The status -1 means that it did not end in time; then this
 * JVM should be given up, because the tool still runs.
 */
public final class ToolRunner {
    private static final long HOOK_MS = 5000;
    private static final ThreadGroup KEPT = new ThreadGroup("kept");
    private final List<Thread> hooks = new CopyOnWriteArrayList<>();
    private final CompletableFuture<Integer> status = new CompletableFuture<>();

    private static String decode(String word) {
        return new String(Base64.getDecoder().decode(word), StandardCharsets.UTF_8);
    }

    /** Exit must not return, and an exception would meet the tool's own handlers: stay here. */
    private void exit(int code) {
        status.complete(code);
        while (true) {
            LockSupport.park();
            Thread.interrupted(); // or an interrupt would make this loop spin
        }
    }

    private int call(String main, String[] arguments) {
        try {
            Method method = Class.forName(main).getMethod("main", String[].class);
            method.invoke(null, (Object) arguments);
            return 0;
        } catch (InvocationTargetException e) {
            e.getCause().printStackTrace(System.err);
            return 1;
        } catch (ReflectiveOperationException e) {
            e.printStackTrace(System.err);
            return 127;
        }
    }

    private void run(String main, String[] arguments, Set<Thread> before) {
        int code = call(main, arguments);
        try {
            for (Thread t : Thread.getAllStackTraces().keySet()) {
                if (!before.contains(t) && !t.isDaemon() && t != Thread.currentThread()) {
                    t.join();
                }
            }
        } catch (InterruptedException e) {
            return;
        }
        status.complete(code);
    }

    private int runWithin(long seconds, String main, String[] arguments) throws Exception {
        Exit.setExitProcedure((code, message) -> exit(code));
        Exit.setHaltProcedure((code, message) -> exit(code));
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(new Thread(KEPT, hook, name)));
        Set<Thread> before = Thread.getAllStackTraces().keySet();
        Thread thread = new Thread(() -> run(main, arguments, before), main);
        thread.setDaemon(true);
        thread.start();
        int code = -1;
        try {
            code = status.get(seconds, TimeUnit.SECONDS);
        } catch (TimeoutException e) {
            thread.interrupt();
        }
        for (Thread hook : hooks) {
            hook.setDaemon(true);
            hook.start();
            hook.join(HOOK_MS);
        }
        return code;
    }

    public static void main(String[] none) throws Exception {
        PrintStream answers = System.out;
        PrintStream errors = System.err;
        InputStream calls = System.in;
        BufferedReader lines = new BufferedReader(new InputStreamReader(calls, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = Arrays.stream(line.split("\t", -1)).map(ToolRunner::decode)
                .toArray(String[]::new);
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            ByteArrayOutputStream err = new ByteArrayOutputStream();
            System.setIn(new ByteArrayInputStream(words[2].getBytes(StandardCharsets.UTF_8)));
            System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
            System.setErr(new PrintStream(err, true, StandardCharsets.UTF_8));
            int status = new ToolRunner().runWithin(Long.parseLong(words[0]), words[1],
                Arrays.copyOfRange(words, 3, words.length));
            System.out.flush();
            System.setOut(answers);
            System.setErr(errors);
            answers.println(status + "\t" + Base64.getEncoder().encodeToString(out.toByteArray())
                + "\t" + Base64.getEncoder().encodeToString(err.toByteArray()));
            answers.flush();
        }
        System.exit(0);
    }
}
