"""SMART App Launch with Authlib. BASE CLIENT_ID REDIRECT_URI; prints where to send the person, reads where they
came back to, and goes on. Fails by an exception."""

import sys

import requests
from authlib.jose import JsonWebKey, jwt
from authlib.oidc.core import CodeIDToken
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7636 import create_s256_code_challenge

base, client_id, redirect_uri = sys.argv[1:]
smart = requests.get(f"{base}/.well-known/smart-configuration").json()
verifier = "x" * 64
one = OAuth2Session(
    client_id,
    token_endpoint_auth_method="none",
    redirect_uri=redirect_uri,
    scope="openid fhirUser launch/patient offline_access patient/Patient.rs",
    code_challenge_method="S256",
)
url, state = one.create_authorization_url(smart["authorization_endpoint"], code_verifier=verifier, aud=base, nonce="a nonce")
assert create_s256_code_challenge(verifier) in url, url
print(url, flush=True)
back = sys.stdin.readline().strip()
token = one.fetch_token(smart["token_endpoint"], authorization_response=back, state=state, code_verifier=verifier)
assert token["patient"] == "ann" and token["token_type"] == "Bearer", token
# OpenID Connect Core 1.0, section 3.1.3.7, by the keys that the server's own description leads to.
provider = requests.get(f"{base}/.well-known/openid-configuration").json()
keys = JsonWebKey.import_key_set(requests.get(provider["jwks_uri"]).json())
claims = jwt.decode(
    token["id_token"],
    keys,
    claims_cls=CodeIDToken,
    claims_options={"iss": {"essential": True, "value": provider["issuer"]}, "aud": {"essential": True, "value": client_id}},
    claims_params={"nonce": "a nonce", "client_id": client_id, "access_token": token["access_token"]},
)
claims.validate()
assert claims.header["alg"] == "RS256" and claims["fhirUser"] == f"{base}/Patient/ann", claims
assert one.get(f"{base}/Patient/ann").status_code == 200
assert one.get(f"{base}/Observation").status_code == 403
first = token["refresh_token"]
renewed = one.refresh_token(smart["token_endpoint"], refresh_token=first)
assert renewed["refresh_token"] != first, renewed
assert one.get(f"{base}/Patient/ann").status_code == 200
try:
    one.refresh_token(smart["token_endpoint"], refresh_token=first)
except OAuthError as error:
    assert error.error == "invalid_grant", error
else:
    raise AssertionError("a refresh token was taken twice")
# Whoever had it, nobody gets in by it any more.
asked = requests.get(f"{base}/Patient/ann", headers={"Authorization": f"Bearer {renewed['access_token']}"})
assert asked.status_code == 401, asked.status_code
print("fine")
