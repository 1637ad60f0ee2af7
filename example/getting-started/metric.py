"""Gathers the metric: prints the label numPods of the Deployment.

A hook reads one JSON value on stdin; what it prints is the metric's value.
"""

import json
import sys

# Run mode per-resource: "resource" is the whole target, as the API server has it.
metadata = json.load(sys.stdin)["resource"]["metadata"]

value = metadata.get("labels", {}).get("numPods")
if value is None:
    # A hook that fails ends the run, and nothing is scaled: better than a guess.
    # What it says on stderr is in the log.
    sys.exit(f"{metadata['name']} has no label numPods")
sys.stdout.write(value)
