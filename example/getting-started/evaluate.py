"""Decides: prints how many replicas the gathered metric asks for."""

import json
import sys

# Run mode per-resource: there is one metric. A metric hook that printed
# nothing leaves no value.
value = json.load(sys.stdin)["metrics"][0].get("value", "")

try:
    replicas = int(value)
except ValueError:
    sys.exit(f"the label numPods is {value!r}, which is no whole number")
json.dump({"targetReplicas": replicas}, sys.stdout)
