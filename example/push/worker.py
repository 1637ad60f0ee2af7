"""Scales by a queue of jobs, and at once when it grows or shrinks.

`metric` asks the queue how many jobs wait, `evaluate` wants one pod for every 10.
Beside them a thread waits for the queue to change, and has the autoscaler run.
"""

import json
import math
import os
import sys
import threading
import time
import urllib.request

QUEUE = os.environ.get("QUEUE", "http://localhost:8080")
JOBS_PER_POD = 10


def metric(params):
    return str(ask("/jobs", timeout=2))


def evaluate(params):
    # Run mode per-resource: one metric, whose value is what metric answered.
    return {"targetReplicas": math.ceil(int(params["metrics"][0]["value"]) / JOBS_PER_POD)}


def watch():
    """Pushes whenever the number of jobs is another than the last one heard of.

    Also when it hears of the first, as that may have changed since the run that
    started this process. What is pushed is only that something has changed, and
    why it matters to whoever reads the log: the run asks for itself.
    """
    jobs = ""
    while True:
        try:
            # The queue answers when the number is another, or after a while.
            now = ask(f"/jobs?not={jobs}", timeout=60)
        except (OSError, ValueError) as error:
            print(f"cannot follow the queue: {error}")
            time.sleep(5)
            continue
        if now != jobs:
            jobs = now
            send({"method": "trigger", "params": {"reason": f"{jobs} jobs wait"}})


def ask(path, timeout):
    with urllib.request.urlopen(QUEUE + path, timeout=timeout) as response:
        return int(response.read())


# From here on it is the protocol, the same for any hooks.

# Messages have the real stdout for themselves. What anything else prints, a library
# or a program that is started, goes to stderr, and so to the log.
messages = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
sys.stdout = sys.stderr  # which does not wait for a whole buffer
one_at_a_time = threading.Lock()


def send(message):
    """Sends one line. Two threads do, so that one must not get into the other's."""
    with one_at_a_time:
        messages.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        messages.flush()


def main():
    hooks = {"metric": metric, "evaluate": evaluate}
    # A daemon does not keep the process from ending when stdin has ended.
    threading.Thread(target=watch, daemon=True).start()
    for line in sys.stdin.buffer:  # until the autoscaler closes it
        request = json.loads(line)
        try:
            answer = {"result": hooks[request["method"]](request["params"])}
        except Exception as error:  # fails the hook; the process goes on
            answer = {"error": {"code": 1, "message": f"{type(error).__name__}: {error}"}}
        send({"id": request["id"], **answer})


if __name__ == "__main__":
    main()
