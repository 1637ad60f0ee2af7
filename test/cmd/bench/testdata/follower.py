#!/usr/bin/env python3
# Copyright The Custom Pod Autoscaler Authors.
# SPDX-License-Identifier: Apache-2.0

"""A program that follows the contract as far as the bench asks for it.

It knows the service account of a pod and KUBECONFIG, shell hooks and workers,
and runs that are asked for over REST, pushed by a worker, or the first of the
loop. It knows no http hooks: the bench has to do without.
"""

import functools
import http.server
import json
import os
import re
import ssl
import subprocess
import threading
import time
import urllib.request

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


def connect():
    """Return the API server's address and how to trust it."""
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        address = "https://%s:%s" % (os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"])
        return address, ssl.create_default_context(cafile=ACCOUNT + "/ca.crt")
    import base64

    with open(os.environ["KUBECONFIG"]) as file:
        kubeconfig = file.read()
    authority = base64.b64decode(re.search(r"certificate-authority-data: (\S+)", kubeconfig)[1]).decode()
    address = re.search(r"server: (\S+)", kubeconfig)[1]
    return address, ssl.create_default_context(cadata=authority)


class Worker:
    def __init__(self, worker, triggered):
        self.process = subprocess.Popen([worker["entrypoint"], *worker["command"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.answered = threading.Condition()
        self.answers = {}
        self.asked = 0
        threading.Thread(target=self.read, args=[triggered], daemon=True).start()

    def read(self, triggered):
        for line in self.process.stdout:
            message = json.loads(line)
            if message.get("method") == "trigger":
                threading.Thread(target=triggered, daemon=True).start()
                continue
            with self.answered:
                self.answers[message["id"]] = message["result"]
                self.answered.notify_all()

    def ask(self, stage, payload):
        with self.answered:
            self.asked += 1
            number = self.asked
            request = {"jsonrpc": "2.0", "id": number, "method": stage, "params": payload}
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
            self.answered.wait_for(lambda: number in self.answers, timeout=10)
            result = self.answers.pop(number)
        return result if isinstance(result, str) else json.dumps(result)


class Autoscaler:
    def __init__(self, config):
        self.config = config
        self.address, self.trust = connect()
        self.running = threading.Lock()

    @functools.cache
    def worker(self, stage):
        return Worker(self.config[stage]["worker"], self.run)

    def ask(self, stage, payload):
        method = self.config[stage]
        if method["type"] == "worker":
            return self.worker(stage).ask(stage, payload)
        if method["type"] != "shell":
            raise SystemExit("unknown type " + method["type"])
        shell = method["shell"]
        done = subprocess.run(
            [shell["entrypoint"], *shell["command"]], input=json.dumps(payload).encode(), stdout=subprocess.PIPE, check=True
        )
        return done.stdout.decode()

    def api(self, method, path, body=None):
        request = urllib.request.Request(self.address + path, data=body, method=method)
        request.add_header("Content-Type", "application/json-patch+json")
        with urllib.request.urlopen(request, context=self.trust, timeout=10) as answer:
            return json.load(answer)

    def run(self):
        with self.running:
            return self.journey()

    def journey(self):
        namespace = self.config["namespace"]
        path = "/apis/apps/v1/namespaces/%s/deployments/%s" % (namespace, self.config["scaleTargetRef"]["name"])
        target = self.api("GET", path)
        scale = self.api("GET", path + "/scale")
        subjects = [target]
        if self.config["runMode"] == "per-pod":
            selector = urllib.request.quote(scale["status"]["selector"])
            subjects = self.api("GET", "/api/v1/namespaces/%s/pods?labelSelector=%s" % (namespace, selector))["items"]
        metrics = [self.ask("metric", {"resource": subject, "runType": "api"}) for subject in subjects]
        evaluation = json.loads(self.ask("evaluate", {"metrics": metrics, "resource": target, "runType": "api"}))
        if evaluation["targetReplicas"] != scale["spec"]["replicas"]:
            patch = [{"op": "replace", "path": "/spec/replicas", "value": evaluation["targetReplicas"]}]
            self.api("PATCH", path + "/scale", json.dumps(patch).encode())
        return evaluation


def handler(autoscaler):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status, body):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            self.answer(404, b"{}")

        def do_POST(self):
            self.answer(200, json.dumps(autoscaler.run()).encode())

        def log_message(self, *_):
            pass

    return Handler


with open(os.environ["configPath"]) as file:
    config = json.load(file)
for stage in "metric", "evaluate":
    if config[stage]["type"] == "http":
        print("this program knows no http hooks")
        raise SystemExit(2)
autoscaler = Autoscaler(config)
server = http.server.ThreadingHTTPServer((config["apiConfig"]["host"], config["apiConfig"]["port"]), handler(autoscaler))
threading.Thread(target=server.serve_forever, daemon=True).start()
while True:
    time.sleep(config["interval"] / 1000)
    autoscaler.run()
