"""A partner that can't be relied on: an HTTP server of Python's standard library.

It notes each request before it does anything else. Then, by the seed, it breaks off without an answer, is not
available, is slow, or answers only when nobody waits any more; each time it may have done what it was asked. From the
fifth time on one key is always answered. An answer goes by the key alone.

Arguments: the file to note in, and the seed. A line is NAME KEY WHAT, where NAME is the body's `name` and WHAT is
`asked`, or `answered` once a whole answer was handed over. It prints its port.
"""

import http.server
import json
import random
import sys
import threading
import time

LOG, SEED = open(sys.argv[1], "a", encoding="utf-8"), int(sys.argv[2])
LOCK = threading.Lock()
RANDOM = random.Random(SEED)
TIMES = {}


class Partner(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def note(self, name, key, what):
        LOG.write(f"{name} {key} {what}\n")
        LOG.flush()

    def answer(self, status, text, headers=()):
        data = text.encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key, name = self.headers["Idempotency-Key"], body["name"]
        with LOCK:
            times = TIMES[key] = TIMES.get(key, 0) + 1
            dice = RANDOM.random() if times < 5 else 1
            self.note(name, key, "asked")
        if dice < 0.2:
            self.close_connection = True
            return
        if dice < 0.35:
            return self.answer(503, "", [("Retry-After", "1")])
        if dice < 0.4:
            # Longer than anybody waits.
            time.sleep(2)
        elif dice < 0.7:
            time.sleep(RANDOM.uniform(0, 0.3))
        try:
            self.answer(201, json.dumps({"booking": {"id": "B-" + key[:8]}, "secret": "not to be kept"}))
        except OSError:
            # Who asked is gone.
            self.close_connection = True
            return
        with LOCK:
            self.note(name, key, "answered")


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Partner)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
