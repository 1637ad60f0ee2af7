import java.io.IOException;
import java.util.List;

/** Asks for as many pods as the sessions of all pods need. */
public final class Evaluate {
    private static final long SESSIONS_PER_POD = 10;

    public static void main(String[] args) throws IOException {
        // One metric a pod: {"resource": "web-1", "value": "7"}. While the
        // target has no pods yet, "metrics" is null.
        if (!(Json.at(Json.read(System.in), "metrics") instanceof List<?> metrics) || metrics.isEmpty()) {
            System.err.println("there are no pods to go by yet");
            System.exit(1);
            return;
        }
        long sessions = 0;
        for (Object metric : metrics) {
            // Text that is no number throws, which fails the hook.
            sessions += Long.parseLong(String.valueOf(Json.at(metric, "value")));
        }
        long replicas = (sessions + SESSIONS_PER_POD - 1) / SESSIONS_PER_POD; // rounded up
        System.out.print("{\"targetReplicas\": " + replicas + "}");
    }
}
