"""Stands for your queue: knows how many jobs wait, and tells who waits for a change.

    GET /jobs          answers with the number of jobs
    GET /jobs?not=25   the same, but only when it is not 25, or after half a minute
    PUT /jobs          sets it, to try it out

It listens on PORT of this host or pod only.
"""

import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

LONGEST_WAIT = 30


class Handler(BaseHTTPRequestHandler):
    jobs = 0
    changed = threading.Condition()

    def do_GET(self):
        url = urlsplit(self.path)
        if url.path != "/jobs":
            return self.answer(404, f"there is no {url.path}")
        known = parse_qs(url.query).get("not", [""])[0]
        with Handler.changed:
            Handler.changed.wait_for(lambda: str(Handler.jobs) != known, LONGEST_WAIT)
            jobs = Handler.jobs
        return self.answer(200, str(jobs))

    def do_PUT(self):
        if self.path != "/jobs":
            return self.answer(404, f"there is no {self.path} to put to")
        try:
            jobs = int(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        except ValueError as error:
            return self.answer(400, str(error))
        with Handler.changed:
            Handler.jobs = jobs
            Handler.changed.notify_all()
        return self.answer(200, str(jobs))

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True  # whoever still waits does not keep it from ending


def main():
    # As the first process of a container it would not end on SIGTERM by itself.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Server(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Handler) as server:
        print(f"listening on {server.server_address[0]}:{server.server_address[1]}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
