"""Asks for as many replicas as the label says."""

import json
import sys

value = json.load(sys.stdin)["metrics"][0].get("value", "")

try:
    replicas = int(value)
except ValueError:
    sys.exit(f"the label numPods is {value!r}, which is no whole number")
json.dump({"targetReplicas": replicas}, sys.stdout)
