"""Prints the annotation jobs of the Deployment: how many jobs wait.

What scales from zero must come from outside of the pods, since there are none:
the length of a queue, say.
"""

import json
import sys

metadata = json.load(sys.stdin)["resource"]["metadata"]

jobs = metadata.get("annotations", {}).get("jobs")
if jobs is None:
    sys.exit(f"{metadata['name']} has no annotation jobs")
sys.stdout.write(jobs)
