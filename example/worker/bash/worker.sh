#!/usr/bin/env bash
# Both hooks of an autoscaler, in one process that stays: `metric` answers with the
# label sessions of one pod, `evaluate` with as many pods as the sessions of all
# pods need.
set -uo pipefail

sessions_per_pod=10

# What the hooks need of their payloads: the arguments they are called with, each
# as JSON. In the run mode per-pod, "resource" is the pod. In "metrics" is one a
# pod, {"resource": "web-1", "value": "7"}; while there are no pods yet, it is null.
arguments='{
  metric: [.params.resource?.metadata? | .name, .labels.sessions],
  evaluate: [.params.metrics?[]?.value]
}'

# A hook sets `result`, to one line of JSON, or calls `fail` and returns.

metric() { # NAME SESSIONS
  [ "$2" != null ] || fail "the pod ${1//\"/} has no label sessions" || return
  result=$2
}

evaluate() { # SESSIONS...
  [ $# -gt 0 ] || fail "there are no pods to go by yet" || return
  local value sessions=0
  for value; do
    [[ $value =~ ^\"([0-9]+)\"$ ]] || fail "the sessions of a pod are $value, which is no whole number" || return
    sessions=$((sessions + 10#${BASH_REMATCH[1]}))
  done
  result="{\"targetReplicas\": $(((sessions + sessions_per_pod - 1) / sessions_per_pod))}" # rounded up
}

# From here on it is the protocol, the same for any hooks.

fail() {
  message=$1
  return 1
}

# Answers have the real stdout for themselves, as 3. What anything else prints goes
# to stderr, and so to the log.
exec 3>&1 1>&2
# One jq that stays reads the requests, until the autoscaler closes stdin: to start
# one for each would cost more than all the rest.
while IFS=$'\x1f' read -r -a request -u 4; do
  id=${request[0]} hook=${request[1]} result=null message="the hook ${request[1]} failed; stderr says why"
  # Without a stdin of its own, a program could swallow the next request.
  if "$hook" "${request[@]:2}" </dev/null; then
    printf '{"jsonrpc": "2.0", "id": %s, "result": %s}\n' "$id" "$result" >&3
  else # fails the hook; the process goes on
    jq -cn --argjson id "$id" --arg message "$message" '{jsonrpc: "2.0", $id, error: {code: 1, $message}}' >&3
  fi
done 4< <(exec jq --unbuffered -r "[.id, .method, (($arguments)[.method][]? | tojson)] | join(\"\u001f\")")
