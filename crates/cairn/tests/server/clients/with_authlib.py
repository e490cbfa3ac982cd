"""SMART Backend Services with Authlib (RS384). `make FILE` makes a key and prints the key set; `use FILE
BASE CLIENT_ID` gets tokens and asks for FHIR with them. Fails by an exception."""

import json
import sys
import time

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc.jwk import RSAKey

if sys.argv[1] == "make":
    key = RSAKey.generate_key(2048, parameters={"kid": "authlib-1", "use": "sig"}, private=True)
    with open(sys.argv[2], "w") as file:
        json.dump(key.as_dict(private=True), file)
    print(json.dumps({"keys": [key.as_dict(private=False)]}))
    sys.exit(0)

_, _, path, base, client_id = sys.argv
with open(path) as file:
    key = RSAKey.import_key(json.load(file))
smart = requests.get(f"{base}/.well-known/smart-configuration").json()
assert "private_key_jwt" in smart["token_endpoint_auth_methods_supported"], smart
endpoint = smart["token_endpoint"]


def session(life_s, algorithm="RS384"):
    # Authlib's own default is an hour, and SMART's most are five minutes.
    claims = {"exp": int(time.time()) + life_s}
    method = PrivateKeyJWT(endpoint, claims=claims, headers={"kid": "authlib-1"}, alg=algorithm)
    one = OAuth2Session(client_id, key, token_endpoint_auth_method="private_key_jwt")
    one.register_client_auth_method(method)
    return one


one = session(240)
token = one.fetch_token(endpoint, grant_type="client_credentials", scope="system/Patient.rs")
assert token["scope"] == "system/Patient.rs" and token["expires_in"] == 300, token
found = one.get(f"{base}/Patient")
assert found.status_code == 200 and found.json()["resourceType"] == "Bundle", found.text
assert one.get(f"{base}/Observation").status_code == 403

for wrong in [session(3600), session(240, "RS256")]:
    try:
        wrong.fetch_token(endpoint, grant_type="client_credentials", scope="system/Patient.rs")
    except OAuthError as error:
        assert error.error == "invalid_client", error
    else:
        raise AssertionError("it was let in")
# The same proof once more: this version keeps the id of the first.
try:
    one.fetch_token(endpoint, grant_type="client_credentials", scope="system/Patient.rs")
except OAuthError as error:
    assert error.error == "invalid_client", error
else:
    raise AssertionError("a proof was taken twice")
print("fine")
