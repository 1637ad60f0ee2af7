// Asks for as many pods as the sessions of all pods need.
import { json } from "node:stream/consumers";

const SESSIONS_PER_POD = 10;

// One metric a pod: {"resource": "web-1", "value": "7"}. While the target has no
// pods yet, "metrics" is null.
const metrics = (await json(process.stdin)).metrics ?? [];
if (metrics.length === 0) {
  console.error("there are no pods to go by yet");
  process.exit(1);
}

let sessions = 0;
for (const { resource, value } of metrics) {
  if (!/^\d+$/.test(value)) {
    console.error(`the sessions of the pod ${resource} are ${JSON.stringify(value)}, which is no whole number`);
    process.exit(1);
  }
  sessions += Number(value);
}
process.stdout.write(JSON.stringify({ targetReplicas: Math.ceil(sessions / SESSIONS_PER_POD) }));
