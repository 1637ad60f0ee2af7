# Copyright The Custom Pod Autoscaler Authors.
# SPDX-License-Identifier: Apache-2.0

"""The worker that the benchmark measures: reads a payload, answers at once.

It answers with evaluations of the numbers of --replicas, in turn, or without
them with a figure. With --trigger it asks for a run whenever something arrives
at that socket.
"""

import argparse
import itertools
import json
import pathlib
import socket
import sys
import threading

arguments = argparse.ArgumentParser()
arguments.add_argument("--replicas", type=int, nargs="*", default=[])
arguments.add_argument("--trigger")
arguments = arguments.parse_args()

# One line at a time: two threads print.
printing = threading.Lock()


def say(message):
    line = json.dumps(message)
    with printing:
        print(line, flush=True)


def trigger(signals):
    while True:
        reason = signals.recv(1024).decode()
        say({"jsonrpc": "2.0", "method": "trigger", "params": {"reason": reason}})


if arguments.trigger:
    pathlib.Path(arguments.trigger).unlink(missing_ok=True)  # of a worker before this one
    signals = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    signals.bind(arguments.trigger)
    threading.Thread(target=trigger, args=[signals], daemon=True).start()

replicas = itertools.cycle(arguments.replicas)
for line in sys.stdin:
    request = json.loads(line)
    result = "5"
    if arguments.replicas:
        result = {"targetReplicas": next(replicas)}
    say({"jsonrpc": "2.0", "id": request["id"], "result": result})
