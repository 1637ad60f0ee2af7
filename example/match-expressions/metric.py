"""Prints 1 for a pod that is busy, else 0."""

import json
import sys

# Run mode per-pod: "resource" is the pod.
metadata = json.load(sys.stdin)["resource"]["metadata"]

busy = metadata.get("labels", {}).get("busy") == "true"
sys.stdout.write("1" if busy else "0")
