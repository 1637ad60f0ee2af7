"""Hands the CPU figures, which the runtime has gathered, on to evaluate.py."""

import json
import sys

# One entry for each of kubernetesMetricSpecs. requireKubernetesMetrics sees to
# it that it is there.
cpu = json.load(sys.stdin)["kubernetesMetrics"][0]
json.dump(cpu, sys.stdout)
