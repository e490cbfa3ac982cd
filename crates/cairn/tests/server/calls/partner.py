"""A partner: an HTTP server of Python's standard library that notes what it is asked.

How it answers goes by the first part of the path: ok, full (409), refuse (400), later (503, then ok), dated (503 until
a date an hour ahead, then ok), redirect, huge, broken (no JSON), never (503), silent (longer than anybody waits), sullen (silent, then 400), odd (a value of the
wrong kind).

Argument: the file to note requests in, a line of JSON each. It prints its port.
"""

import email.utils
import http.server
import json
import sys
import threading
import time

LOG = sys.argv[1]
LOCK = threading.Lock()
SEEN = {}


class Partner(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def note(self, body):
        key = self.headers["Idempotency-Key"]
        with LOCK:
            times = SEEN[key] = SEEN.get(key, 0) + 1
            with open(LOG, "a") as log:
                headers = {name.lower(): value for name, value in self.headers.items()}
                line = {"method": self.command, "path": self.path, "headers": headers, "body": body}
                log.write(json.dumps(line) + "\n")
        return key, times

    def answer(self, status, text, headers=()):
        data = text.encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        key, times = self.note(body)
        way = self.path.split("/")[1]
        said = json.dumps({"booking": {"id": "B-" + key[:8]}, "fits": True, "secret": "not to be kept"})
        if way == "full":
            return self.answer(409, "{}")
        if way == "refuse":
            return self.answer(400, said)
        if way == "later" and times < 3:
            return self.answer(503, said, [("Retry-After", "1")])
        if way == "dated" and times < 2:
            at = email.utils.formatdate(time.time() + 3600, usegmt=True)
            return self.answer(503, said, [("Retry-After", at)])
        if way == "never":
            return self.answer(503, said)
        if way == "redirect":
            return self.answer(307, "", [("Location", "/ok/elsewhere")])
        if way == "huge":
            return self.answer(200, json.dumps({"booking": {"id": "x" * 400_000}}))
        if way == "broken":
            return self.answer(200, "<html>")
        if way == "sullen" and times > 1:
            return self.answer(400, said)
        if way in ("silent", "sullen"):
            time.sleep(6)
        if way == "odd":
            return self.answer(200, json.dumps({"booking": {"id": {"deep": 1}}, "fits": [True, False]}))
        return self.answer(201, said)

    do_PUT = do_POST


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Partner)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
