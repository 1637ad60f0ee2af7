"""Prints the annotation requests-per-second of the Deployment."""

import json
import sys

metadata = json.load(sys.stdin)["resource"]["metadata"]

requests = metadata.get("annotations", {}).get("requests-per-second")
if requests is None:
    sys.exit(f"{metadata['name']} has no annotation requests-per-second")
sys.stdout.write(requests)
