"""Hears from the backend what has happened, and checks that it was the backend: the standard library alone.

WEBHOOK_SECRET=whsec_… python examples/receive_webhooks.py 127.0.0.1 9000

Libraries of Standard Webhooks (`pip install standardwebhooks`) make the same check.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

# Older requests may have been recorded by somebody, who sends them once more.
TOLERANCE_S = 300
MAX_BODY_BYTES = 1024 * 1024
SECRET = base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whsec_"))
# A delivery may come twice, with the same name. Keep them on disk if your program is to survive restarts.
seen: set[str] = set()


def is_genuine(name: str, sent: str, signatures: str, body: bytes) -> bool:
    """Whether the backend has sent this, just now."""
    if not sent.isdecimal() or abs(time.time() - int(sent)) > TOLERANCE_S:
        return False
    made = hmac.digest(SECRET, f"{name}.{sent}.".encode() + body, hashlib.sha256)
    expected = f"v1,{base64.b64encode(made).decode()}".encode()
    return any(hmac.compare_digest(each.encode(), expected) for each in signatures.split())


class Receiver(BaseHTTPRequestHandler):
    """Answers soon: what takes long is begun, and not waited for."""

    def do_POST(self) -> None:
        body = self.rfile.read(min(int(self.headers.get("content-length", 0)), MAX_BODY_BYTES))
        name, sent, signatures = (
            self.headers.get(f"webhook-{each}", "") for each in ("id", "timestamp", "signature")
        )
        if not is_genuine(name, sent, signatures, body):
            self.send_error(401)
            return
        if name not in seen:
            seen.add(name)
            event = json.loads(body)
            print(event["type"], json.dumps(event["data"]), flush=True)
        self.send_response(204)
        self.end_headers()


if __name__ == "__main__":
    HTTPServer((sys.argv[1], int(sys.argv[2])), Receiver).serve_forever()
