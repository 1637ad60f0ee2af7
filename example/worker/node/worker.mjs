// Both hooks of an autoscaler, in one process that stays: `metric` answers with the
// label sessions of one pod, `evaluate` with as many pods as the sessions of all
// pods need.

const SESSIONS_PER_POD = 10;

function metric(params) {
  // Run mode per-pod: "resource" is the pod.
  const { metadata } = params.resource;

  const sessions = metadata.labels?.sessions;
  if (sessions === undefined) {
    throw new Error(`the pod ${metadata.name} has no label sessions`);
  }
  return sessions;
}

function evaluate(params) {
  // One metric a pod: {"resource": "web-1", "value": "7"}. While the target has no
  // pods yet, "metrics" is null.
  const metrics = params.metrics ?? [];
  if (metrics.length === 0) {
    throw new Error("there are no pods to go by yet");
  }

  let sessions = 0;
  for (const { resource, value } of metrics) {
    if (!/^\d+$/.test(value)) {
      throw new Error(`the sessions of the pod ${resource} are ${JSON.stringify(value)}, which is no whole number`);
    }
    sessions += Number(value);
  }
  return { targetReplicas: Math.ceil(sessions / SESSIONS_PER_POD) };
}

// From here on it is the protocol, the same for any hooks.

const hooks = { metric, evaluate };

// Answers have the real stdout for themselves. What anything else prints, such as
// console.log, goes to stderr, and so to the log.
const answer = process.stdout.write.bind(process.stdout);
process.stdout.write = process.stderr.write.bind(process.stderr);

process.stdin.setEncoding("utf8");
let rest = "";
for await (const chunk of process.stdin) { // until the autoscaler closes it
  const lines = (rest + chunk).split("\n");
  rest = lines.pop();
  for (const line of lines) {
    const { id, method, params } = JSON.parse(line);
    try { // hooks may be async
      answer(`${JSON.stringify({ jsonrpc: "2.0", id, result: (await hooks[method](params)) ?? null })}\n`);
    } catch (error) { // fails the hook; the process goes on
      answer(`${JSON.stringify({ jsonrpc: "2.0", id, error: { code: 1, message: String(error) } })}\n`);
    }
  }
}
