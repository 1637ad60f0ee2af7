#!/bin/sh
# Remembers what it was given, and passes the wanted number on.
cat >/tmp/given
wanted=$(sed 's/.*wants \([0-9]*\).*/\1/' /tmp/given)
printf '{"targetReplicas": %d}' "$wanted"
