// Prints the label sessions of one pod.
import { json } from "node:stream/consumers";

// Run mode per-pod: "resource" is the pod.
const { metadata } = (await json(process.stdin)).resource;

const sessions = metadata.labels?.sessions;
if (sessions === undefined) {
  console.error(`the pod ${metadata.name} has no label sessions`);
  process.exit(1);
}
process.stdout.write(sessions);
