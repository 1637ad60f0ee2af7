"""Both hooks of an autoscaler, in one process that stays: `metric` answers with the
label sessions of one pod, `evaluate` with as many pods as the sessions of all pods
need."""

import json
import math
import os
import sys

SESSIONS_PER_POD = 10


def metric(params):
    # Run mode per-pod: "resource" is the pod.
    metadata = params["resource"]["metadata"]

    sessions = metadata.get("labels", {}).get("sessions")
    if sessions is None:
        raise LookupError(f"the pod {metadata['name']} has no label sessions")
    return sessions


def evaluate(params):
    # One metric a pod: {"resource": "web-1", "value": "7"}. While the target has
    # no pods yet, "metrics" is null.
    metrics = params["metrics"]
    if not metrics:
        raise LookupError("there are no pods to go by yet")

    sessions = sum(int(metric.get("value", "")) for metric in metrics)
    return {"targetReplicas": math.ceil(sessions / SESSIONS_PER_POD)}


# From here on it is the protocol, the same for any hooks.


def main():
    hooks = {"metric": metric, "evaluate": evaluate}
    # Answers have the real stdout for themselves. What anything else prints, a
    # library or a program that is started, goes to stderr, and so to the log.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr  # which does not wait for a whole buffer
    for line in sys.stdin.buffer:  # until the autoscaler closes it
        request = json.loads(line)
        answer = {"jsonrpc": "2.0", "id": request["id"]}
        try:
            answer["result"] = hooks[request["method"]](request["params"])
        except Exception as error:  # fails the hook; the process goes on
            answer["error"] = {"code": 1, "message": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    main()
