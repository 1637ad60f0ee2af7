#!/bin/sh
# What a pod runs on a cluster with real nodes: it uses as much CPU as its
# annotation says, which it sees in the file $1, such as "53m". Time and its own
# use come from /proc, in hundredths of a second.

now() {
  read -r uptime _ </proc/uptime
  now=${uptime%.*}${uptime#*.}
}

used() {
  read -r stat <"/proc/$$/stat"
  # shellcheck disable=SC2086 # Split into fields, after the name's bracket.
  set -- ${stat##*) }
  used=$((${12} + ${13}))
}

now
owed=0
while :; do
  began=$now
  sleep 1
  now
  elapsed=$((now - began))
  # Where the node cannot give what is asked for, the backlog is dropped.
  [ "$elapsed" -le 300 ] || elapsed=300
  # The file has no end of line, which read calls a failure.
  cpu=
  read -r cpu <"$1" || true
  cpu=${cpu%m}
  owed=$((owed + elapsed * ${cpu:-0}))
  used
  due=$((used + owed / 1000))
  owed=$((owed % 1000))
  while [ "$used" -lt "$due" ]; do used; done
done
