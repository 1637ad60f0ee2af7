"""Asks for as many pods as the sessions of all pods need."""

import json
import math
import sys

SESSIONS_PER_POD = 10

# One metric a pod: {"resource": "web-1", "value": "7"}. While the target has no
# pods yet, "metrics" is null.
metrics = json.load(sys.stdin)["metrics"]
if not metrics:
    sys.exit("there are no pods to go by yet")

try:
    sessions = sum(int(metric.get("value", "")) for metric in metrics)
except ValueError as error:
    sys.exit(f"a pod's sessions are no whole number: {error}")
json.dump({"targetReplicas": math.ceil(sessions / SESSIONS_PER_POD)}, sys.stdout)
