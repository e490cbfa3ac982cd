"""A provider of text messages for the tests: the part of the API that Twilio gave its form to and that a deliverer needs.
What it tells is signed as twilio's own RequestValidator signs it.

Prints {"port": N}, then {"message": …} for each message that it took. Reads commands from standard input, one JSON object
a line: {"next": [{"status": 400, "code": N, "retry_after": N} | {"hang": true} | {"drop": true} | {"take_and_drop": true} | {"take_and_hang": true}]}
says what it does with the next messages; {"sign": {"url": …, "form": {…}, "token": …}} prints {"signature": …}. What it has
taken has the key of the request beside its form.
"""

import base64
import json
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from twilio.request_validator import RequestValidator

account, token = sys.argv[1], sys.argv[2]
validator = RequestValidator(token)
lock = threading.Lock()
answers = []
count = 0


def say(value):
    with lock:
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body, headers=()):
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self):
        global count
        length = int(self.headers.get("Content-Length", 0))
        form = dict(urllib.parse.parse_qsl(self.rfile.read(length).decode()))
        expected = base64.b64encode(f"{account}:{token}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {expected}":
            return self.answer(401, {"code": 20003, "message": "Authenticate", "status": 401})
        if self.path != f"/2010-04-01/Accounts/{account}/Messages.json":
            return self.answer(404, {"code": 20404, "message": f"{self.path} was not found", "status": 404})
        with lock:
            planned = answers.pop(0) if answers else {}
        if planned.get("hang"):
            threading.Event().wait(60)
        if planned.get("drop"):
            self.close_connection = True
            return None
        status = planned.get("status", 201)
        if status >= 400:
            headers = []
            if "retry_after" in planned:
                headers.append(("Retry-After", str(planned["retry_after"])))
            words = f"The 'To' number {form.get('To')} is not to our liking"
            return self.answer(status, {"code": planned.get("code"), "message": words, "status": status}, headers)
        with lock:
            count += 1
            sid = f"SM{count:032x}"
        say({"message": {"sid": sid, "key": self.headers.get("Idempotency-Key"), **form}})
        if planned.get("take_and_hang"):
            threading.Event().wait(60)
        if planned.get("take_and_drop"):
            self.close_connection = True
            return None
        return self.answer(201, {"sid": sid, "status": "queued", "num_segments": "1", "error_code": None})


server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
say({"port": server.server_port})
for line in sys.stdin:
    command = json.loads(line)
    if "next" in command:
        with lock:
            answers[:] = command["next"]
        say({"ready": True})
    if "sign" in command:
        asked = command["sign"]
        signer = RequestValidator(asked["token"]) if "token" in asked else validator
        say({"signature": signer.compute_signature(asked["url"], asked["form"])})
