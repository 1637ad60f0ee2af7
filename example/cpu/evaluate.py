"""Decides by CPU utilisation, with the HorizontalPodAutoscaler's formula:

    replicas = ceil(pods * utilisation / target)

where the utilisation is what the pods use of what they request, in percent.
"""

import json
import math
import sys

# How far the utilisation may be off the target before anything is done.
TOLERANCE = 0.1


def desired_replicas(metric):
    current = metric["current_replicas"]
    target = metric["spec"]["resource"]["target"]["averageUtilization"]
    cpu = metric["resource"]
    # Thousandths of a core, by pod. A pod that has just gone may still have a
    # figure, but no request.
    requests = cpu["requests"]
    usage = {pod: info["Value"] for pod, info in cpu["pod_metrics_info"].items() if pod in requests}
    if not usage:
        sys.exit("no pod has a CPU figure yet")

    def ratio():
        used, requested = sum(usage.values()), sum(requests[pod] for pod in usage)
        return (used * 100 // requested) / target

    # Pods that cannot be judged, new ones above all, are reckoned such that they
    # speak against a change: as idle against more replicas, as fully busy
    # against fewer. So a scale-up is not repeated while its pods start.
    measured = ratio()
    if measured > 1:
        usage.update(dict.fromkeys([*cpu["missing_pods"], *cpu["ignored_pods"]], 0))
    elif measured < 1:
        usage.update({pod: requests[pod] * max(100, target) // 100 for pod in cpu["missing_pods"]})
    assumed = ratio()
    if 1 - TOLERANCE <= assumed <= 1 + TOLERANCE or (assumed > 1) != (measured > 1):
        return current

    replicas = math.ceil(assumed * len(usage))
    # Never in the opposite direction, should there be fewer pods than replicas
    # at the moment, or more.
    return max(replicas, current) if assumed > 1 else min(replicas, current)


# Run mode per-resource: one metric, whose value is what metric.py printed.
cpu_metric = json.loads(json.load(sys.stdin)["metrics"][0]["value"])
json.dump({"targetReplicas": desired_replicas(cpu_metric)}, sys.stdout)
