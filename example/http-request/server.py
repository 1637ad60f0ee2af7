"""Answers the autoscaler's hooks: a queue that knows how many jobs wait.

    POST /metric     the payload of the metric hook; answers with the jobs
    POST /evaluate   the payload of the evaluate hook; answers with the replicas
    PUT  /jobs       sets how many jobs wait, to try it out

It listens on PORT of this host or pod only.
"""

import json
import math
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

JOBS_PER_POD = 10


class Handler(BaseHTTPRequestHandler):
    # Keeps the connection open for the autoscaler's next call.
    protocol_version = "HTTP/1.1"
    jobs = 0

    def do_PUT(self):
        if self.path != "/jobs":
            return self.answer(404, f"there is no {self.path} to put to")
        try:
            Handler.jobs = int(self.body())
        except ValueError as error:
            return self.answer(400, str(error))
        return self.answer(200, str(Handler.jobs))

    def do_POST(self):
        body = self.body()
        try:
            if self.path == "/metric":
                return self.answer(200, str(Handler.jobs))
            if self.path == "/evaluate":
                return self.answer(200, json.dumps({"targetReplicas": evaluate(json.loads(body))}))
        except (ValueError, LookupError, TypeError) as error:
            # The autoscaler takes this status for a failure, scales nothing,
            # and logs the answer.
            return self.answer(400, f"{type(error).__name__}: {error}")
        return self.answer(404, f"there is no {self.path} to post to")

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def evaluate(payload):
    # Run mode per-resource: one metric, whose value is the answer of /metric.
    return math.ceil(int(payload["metrics"][0]["value"]) / JOBS_PER_POD)


def main():
    # As the first process of a container it would not end on SIGTERM by itself.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Handler) as server:
        print(f"listening on {server.server_address[0]}:{server.server_address[1]}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
