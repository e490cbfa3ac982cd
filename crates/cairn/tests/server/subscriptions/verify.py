"""Says of requests whether they are signed, by the libraries of the Standard Webhooks specification and of Python's
cryptographers.

Reads a JSON list of {"key", "headers", "body"} and prints a list of "ok" or what was wrong.
"""

import base64
import json
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks import Webhook, WebhookVerificationError


def by_public_key(key, headers, body):
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.removeprefix("whpk_")))
    text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body}".encode()
    for one in headers["webhook-signature"].split(" "):
        version, _, signature = one.partition(",")
        if version == "v1a":
            try:
                key.verify(base64.b64decode(signature), text)
                return "ok"
            except InvalidSignature:
                pass
    return "no signature fits"


def outcome(one):
    key, headers, body = one["key"], one["headers"], one["body"]
    if key.startswith("whpk_"):
        return by_public_key(key, headers, body)
    try:
        Webhook(key).verify(body, headers, json_parse=bool(body))
        return "ok"
    except WebhookVerificationError as error:
        return str(error)


print(json.dumps([outcome(one) for one in json.load(sys.stdin)]))
