#!/usr/bin/env bash
# One replica more when the load is above HIGH, one fewer when it is below LOW,
# and no change within COOLDOWN seconds of the last one.
set -euo pipefail

: "${HIGH:=80}" "${LOW:=30}" "${COOLDOWN:=60}" "${STATE_FILE:=last-change}"

payload=$(cat)
current=$(jq -e '.resource.spec.replicas' <<<"$payload")
load=$(jq -e '.metrics[0].value | tonumber | round' <<<"$payload")

answer() {
  printf '{"targetReplicas": %d}' "$1"
  exit
}

# note-change.sh writes the time of the last change. Nothing noted is a fresh
# start, and what happened before it is not known: the cool-down begins now.
now=$(date +%s)
changed=$(cat "$STATE_FILE" 2>/dev/null || true)
if [[ ! $changed =~ ^[0-9]+$ ]]; then
  changed=$now
  echo "$now" >"$STATE_FILE"
fi
# It is negative when the clock was set back.
elapsed=$((now - changed))
if ((elapsed >= 0 && elapsed < COOLDOWN)); then
  answer "$current"
fi

if ((load > HIGH)); then
  answer $((current + 1))
elif ((load < LOW)); then
  answer $((current - 1))
fi
answer "$current"
