"""Forbids to change the count while the Deployment has the annotation freeze.

A check like this belongs here and not into evaluate.py: here the count is final,
and the reason for not scaling is in the log as a failure.
"""

import json
import sys

info = json.load(sys.stdin)
metadata = info["resource"]["metadata"]
current = info["resource"]["spec"]["replicas"]
wanted = info["evaluation"]["targetReplicas"]

frozen = metadata.get("annotations", {}).get("freeze")
if frozen and wanted != current:
    sys.exit(f"{metadata['name']} stays at {current} replicas instead of {wanted}, it is frozen: {frozen}")
