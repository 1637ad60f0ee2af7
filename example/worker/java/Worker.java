import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.function.Function;

/**
 * Both hooks of an autoscaler, in one process that stays: metric answers with the
 * label sessions of one pod, evaluate with as many pods as the sessions of all pods
 * need.
 */
public final class Worker {
    private static final long SESSIONS_PER_POD = 10;

    private static String metric(Object params) {
        // Run mode per-pod: "resource" is the pod.
        Object metadata = Json.at(params, "resource", "metadata");
        Object sessions = Json.at(metadata, "labels", "sessions");
        if (sessions == null) {
            throw new IllegalArgumentException("the pod " + Json.at(metadata, "name") + " has no label sessions");
        }
        return sessions.toString();
    }

    private static String evaluate(Object params) {
        // One metric a pod: {"resource": "web-1", "value": "7"}. While the
        // target has no pods yet, "metrics" is null.
        if (!(Json.at(params, "metrics") instanceof List<?> metrics) || metrics.isEmpty()) {
            throw new IllegalArgumentException("there are no pods to go by yet");
        }
        long sessions = 0;
        for (Object metric : metrics) {
            // Text that is no number throws, which fails the hook.
            sessions += Long.parseLong(String.valueOf(Json.at(metric, "value")));
        }
        long replicas = (sessions + SESSIONS_PER_POD - 1) / SESSIONS_PER_POD; // rounded up
        return "{\"targetReplicas\": " + replicas + "}";
    }

    // From here on it is the protocol, the same for any hooks.

    private static final Map<String, Function<Object, String>> HOOKS =
            Map.of("metric", Worker::metric, "evaluate", Worker::evaluate);

    public static void main(String[] args) throws IOException {
        // Answers have the real stdout for themselves. What anything else prints
        // goes to stderr, and so to the log.
        PrintStream answers = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        System.setOut(System.err);
        BufferedReader requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = requests.readLine(); line != null; line = requests.readLine()) {
            Object request = Json.read(line);
            String answer;
            try {
                String result = HOOKS.get(Json.at(request, "method")).apply(Json.at(request, "params"));
                answer = "\"result\": " + Json.quote(result);
            } catch (RuntimeException e) { // fails the hook; the process goes on
                answer = "\"error\": {\"code\": 1, \"message\": " + Json.quote(e.toString()) + "}";
            }
            long id = ((Double) Json.at(request, "id")).longValue();
            answers.print("{\"jsonrpc\": \"2.0\", \"id\": " + id + ", " + answer + "}\n");
            answers.flush();
        }
    }
}
