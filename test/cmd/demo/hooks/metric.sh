#!/bin/sh
# Prints how much CPU the pods use together, in thousandths of a core: the sum
# of the `Value`s in `kubernetesMetrics`. A new pod, which metrics-server takes
# a while to measure, counts as one that uses what it may; without that its
# share of the load would be missing exactly while the load grows.
set -eu
tr ',{}' '\n' | awk -F: -v most="${millicoresPerPod:?}" '
  $1 == "\"kubernetesMetrics\"" { metrics = 1 }
  metrics && $1 == "\"Value\"" { total += $2; measured++ }
  metrics && $1 == "\"total_pods\"" { pods = $2 + 0 }
  END {
    if (!measured) {
      print "metrics-server has measured no pod yet" > "/dev/stderr"
      exit 1
    }
    print "measured " total "m in " measured " of " pods " pods" > "/dev/stderr"
    printf "%d", total + (pods - measured) * most
  }'
