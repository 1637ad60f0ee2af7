#!/usr/bin/env bash
# Prints the annotation load of the target, a percentage.
set -euo pipefail

# -j prints no line break after the value.
jq -j '.resource.metadata
  | .annotations.load // error("\(.name) has no annotation load")'
