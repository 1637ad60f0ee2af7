#!/usr/bin/env bash
# Before the replica count is written: notes the time if it is about to change.
set -euo pipefail

: "${STATE_FILE:=last-change}"

# This hook runs in every run. "evaluation" holds the count that is wanted,
# after minReplicas and maxReplicas; "resource" the target as it is.
changes=$(jq -r '.evaluation.targetReplicas != .resource.spec.replicas')
if [ "$changes" = true ]; then
  # Beside its place and renamed, so that nobody reads half of it.
  date +%s >"$STATE_FILE.new"
  mv "$STATE_FILE.new" "$STATE_FILE"
fi
