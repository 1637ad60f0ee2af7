"""Asks for as many pods as the requests need.

It says what is wanted at this moment, up and down: holding a scale-down back is
the autoscaler's part.
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
json.dump({"targetReplicas": math.ceil(requests / REQUESTS_PER_POD)}, sys.stdout)
