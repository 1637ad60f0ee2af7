"""Prints the label sessions of one pod."""

import json
import sys

# Run mode per-pod: "resource" is the pod.
metadata = json.load(sys.stdin)["resource"]["metadata"]

sessions = metadata.get("labels", {}).get("sessions")
if sessions is None:
    sys.exit(f"the pod {metadata['name']} has no label sessions")
sys.stdout.write(sessions)
