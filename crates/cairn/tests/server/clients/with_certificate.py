"""Mutual TLS (RFC 8705) with Authlib over requests. `use FOLDER BASE CLIENT_ID`: gets a token by the certificate
`client.pem` of the folder and asks for FHIR with it, and with the same token over other connections. Fails by an
exception."""

import sys

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session

_, folder, base, client_id = sys.argv


def files(name):
    return (f"{folder}/{name}.pem", f"{folder}/{name}.key")


def session(name):
    one = OAuth2Session(client_id, token_endpoint_auth_method="none")
    # Authorities that the environment names would be asked otherwise.
    one.trust_env, one.verify = False, False
    one.cert = files(name) if name else None
    return one


requests.packages.urllib3.disable_warnings()
smart = requests.get(f"{base}/.well-known/smart-configuration", verify=False).json()
assert "tls_client_auth" in smart["token_endpoint_auth_methods_supported"], smart
assert "self_signed_tls_client_auth" in smart["token_endpoint_auth_methods_supported"], smart
assert smart["tls_client_certificate_bound_access_tokens"] is True, smart
endpoint = smart["token_endpoint"]

one = session("client")
token = one.fetch_token(endpoint, grant_type="client_credentials", scope="system/Patient.rs")
assert token["scope"] == "system/Patient.rs" and token["expires_in"] == 300, token
found = one.get(f"{base}/Patient")
assert found.status_code == 200 and found.json()["resourceType"] == "Bundle", found.text

for name in [None, "stranger", "other"]:
    try:
        session(name).fetch_token(endpoint, grant_type="client_credentials", scope="system/Patient.rs")
    except OAuthError as error:
        assert error.error == "invalid_client", error
    else:
        raise AssertionError(f"{name} was let in")
    stolen = {"authorization": f"Bearer {token['access_token']}"}
    cert = files(name) if name else None
    answer = requests.get(f"{base}/Patient", headers=stolen, cert=cert, verify=False)
    assert answer.status_code == 401, (name, answer.text)
print("fine")
