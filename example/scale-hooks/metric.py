"""Prints the label numPods of the Deployment."""

import json
import sys

metadata = json.load(sys.stdin)["resource"]["metadata"]

value = metadata.get("labels", {}).get("numPods")
if value is None:
    sys.exit(f"{metadata['name']} has no label numPods")
sys.stdout.write(value)
