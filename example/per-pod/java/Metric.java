import java.io.IOException;

/** Prints the label sessions of one pod. */
public final class Metric {
    public static void main(String[] args) throws IOException {
        // Run mode per-pod: "resource" is the pod.
        Object metadata = Json.at(Json.read(System.in), "resource", "metadata");
        Object sessions = Json.at(metadata, "labels", "sessions");
        if (sessions == null) {
            // A hook that fails ends the run, and nothing is scaled. What it
            // says on stderr is in the log.
            System.err.println("the pod " + Json.at(metadata, "name") + " has no label sessions");
            System.exit(1);
        }
        System.out.print(sessions);
    }
}
