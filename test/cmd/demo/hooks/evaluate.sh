#!/bin/sh
# Asks for as many pods as it takes for none to use more than millicoresPerPod,
# given {"metrics":[{"resource":"web","value":"412"}],...}.
set -eu
tr ',{}' '\n' | awk -F'"' -v most="${millicoresPerPod:?}" '
  $2 == "value" && total == "" { total = $4 }
  END {
    if (total !~ /^[0-9]+$/) {
      print "the metric is no whole number: " total > "/dev/stderr"
      exit 1
    }
    printf "{\"targetReplicas\": %d}\n", int((total + most - 1) / most)
  }'
