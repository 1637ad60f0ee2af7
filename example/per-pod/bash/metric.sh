#!/usr/bin/env bash
# Prints the label sessions of one pod: in the run mode per-pod, "resource" on
# stdin is the pod.
set -euo pipefail

# -j prints no line break after the value.
jq -j '.resource.metadata
  | .labels.sessions // error("the pod \(.name) has no label sessions")'
