"""Asks for as many pods as the requests need, and says why.

It says what is wanted at this moment. The hours, how fast to get there, and what
to do when the metric is away are the configuration's part.
"""

import json
import math
import sys

REQUESTS_PER_POD = 100

value = json.load(sys.stdin)["metrics"][0].get("value", "")

try:
    requests = float(value)
except ValueError:
    sys.exit(f"the requests per second are {value!r}, which is no number")
json.dump(
    {
        "targetReplicas": math.ceil(requests / REQUESTS_PER_POD),
        "reason": f"{requests:g} requests per second",
    },
    sys.stdout,
)
