"""A place where visits by video are held, with Authlib. ISSUER REDEEM SECRET LINK: checks the link's JWT by the keys that
the issuer's own description leads to, and redeems it twice. Fails by an exception."""

import json
import sys
from urllib.parse import parse_qs, urlsplit

import requests
from authlib.jose import JsonWebKey, JsonWebToken

issuer, redeem, secret, link = sys.argv[1:]
parts = urlsplit(link)
# What browsers keep to themselves: no server on the way has seen it.
assert not parts.query and "token" not in parts.path, link
token = parse_qs(parts.fragment)["token"][0]
origin = f"{parts.scheme}://{parts.netloc}"
provider = requests.get(f"{issuer}/.well-known/openid-configuration").json()
assert provider["issuer"] == issuer, provider
keys = JsonWebKey.import_key_set(requests.get(provider["jwks_uri"]).json())
must = {name: {"essential": True} for name in ("iss", "aud", "exp", "nbf", "iat", "jti", "sub", "room", "role")}
must["iss"]["value"] = issuer
must["aud"]["value"] = origin
claims = JsonWebToken(["RS256"]).decode(token, keys, claims_options=must)
claims.validate()
assert claims.header["typ"] == "visit+jwt" and claims["exp"] - claims["iat"] <= 90, claims
door = requests.Session()
first = door.post(redeem, data={"token": token}, headers={"Authorization": f"Bearer {secret}"})
assert first.status_code == 200 and first.headers["Cache-Control"] == "no-store", first.headers
told = first.json()
assert told["active"] and (told["room"], told["role"], told["sub"]) == (claims["room"], claims["role"], claims["sub"]), told
again = door.post(redeem, data={"token": token}, headers={"Authorization": f"Bearer {secret}"}).json()
assert again == {"active": False, "why": "used"}, again
print(json.dumps(told))
