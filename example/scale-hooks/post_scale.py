"""Tells of every change of the count.

It says so on stderr, for the log; a message to a chat or a record in a database
would go here.
"""

import json
import sys

info = json.load(sys.stdin)
# "resource" is the target as it was before the change.
before = info["resource"]["spec"]["replicas"]
after = info["evaluation"]["targetReplicas"]

if after != before:
    print(f"{info['namespace']}/{info['scaleTargetRef']['name']} went from {before} to {after} replicas", file=sys.stderr)
