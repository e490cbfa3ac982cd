"""An OpenAPI description of all routes that are not FHIR's, from the page that lists them with their guards."""

import argparse
import json
import pathlib
import re
import sys

from pages import sign_in

STATUSES = ["200", "201", "202", "204", "302", "303", "304", "400", "401", "403", "404", "405", "409", "410", "412", "413", "415", "422", "429"]
# Streams have no end, and these would end the scan itself.
LEFT_ALONE = re.compile("/live|^/sign-out|^/console/sign-in/.*|^/console/accounts/{id}/sessions.*")
# What forms ask for, of all of them: the routes take what they know.
FIELDS = [
    "name", "reason", "note", "words", "outcome", "kind", "address", "basis", "proof", "birth_date", "from", "until", "next", "user", "password",
    "code", "ticket", "form", "patient", "role", "state", "answer", "purposes", "contract", "scopes", "keys", "redirect_uris", "launch_uri",
    "issuer", "subject", "theme", "back", "logout_token", "question", "weight", "channel", "version", "file",
]
OAUTH = {
    "response_type": ["code", "token", ""],
    "grant_type": ["authorization_code", "refresh_token", "client_credentials", "password"],
    "client_assertion_type": ["urn:ietf:params:oauth:client-assertion-type:jwt-bearer", ""],
    "code_challenge_method": ["S256", "plain"],
    "decision": ["allow", "deny"],
}
OAUTH_TEXTS = [
    "client_id", "redirect_uri", "scope", "state", "aud", "launch", "code_challenge", "code", "code_verifier", "refresh_token",
    "client_assertion", "token", "token_type_hint", "nonce", "prompt", "max_age", "request", "request_uri", "response_mode",
]
TEXT = {"type": "string"}


def choice(values):
    return {"anyOf": [{"type": "string", "enum": values}, TEXT]}


def oauth():
    return {**{name: TEXT for name in OAUTH_TEXTS}, **{name: choice(values) for name, values in OAUTH.items()}}


def body(path, csrf):
    if path == "/oauth/register":
        schema = {"type": "object", "properties": {
            "client_name": TEXT, "redirect_uris": {"type": "array", "items": TEXT}, "scope": TEXT, "jwks_uri": TEXT,
            "jwks": {"type": "object"}, "token_endpoint_auth_method": TEXT, "grant_types": {"type": "array", "items": TEXT},
        }}
        return {"application/json": {"schema": schema}}
    if path in ("/api/journeys", "/audit/log/cosignatures"):
        return {"text/plain": {"schema": TEXT}}
    fields = oauth() if path.startswith("/oauth/") else {name: TEXT for name in FIELDS}
    fields["csrf"] = {"type": "string", "enum": [csrf or "nonsense"]}
    schema = {"type": "object", "properties": fields, "required": ["csrf"]}
    return {"application/x-www-form-urlencoded": {"schema": schema}}


def operation(method, path, csrf):
    parameters = []
    for name in re.findall(r"{\*?(\w+)}", path):
        schema = choice(["Patient", "Observation"]) if name in ("kind", "type") else choice(["x", "1", "nobody"])
        parameters.append({"name": name, "in": "path", "required": True, "schema": schema})
    if method == "get":
        fields = oauth() if path.startswith("/oauth/") else {name: TEXT for name in ["cursor", "next", "before", "done", "role", "state", "q", "own", "from", "until", "version"]}
        parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in fields.items()]
    described = {"parameters": parameters, "responses": {status: {"description": ""} for status in STATUSES}}
    if method == "post":
        described["requestBody"] = {"required": True, "content": body(path, csrf)}
    return described


def main():
    arguments = argparse.ArgumentParser()
    for name in ["base", "ca", "demo", "routes", "out"]:
        arguments.add_argument(f"--{name}", required=True)
    arguments.add_argument("--user")
    given = arguments.parse_args()
    cookie, csrf = "", ""
    if given.user:
        logins = json.loads(pathlib.Path(given.demo).read_text())["logins"]
        login = next(login for login in logins if login["user_name"] == given.user)
        cookie, csrf = sign_in(given.base, given.ca, login)
    paths = {}
    for line in pathlib.Path(given.routes).read_text().splitlines():
        row = re.match(r"\| `(GET|POST|PUT|DELETE) (/[^`]*)`", line)
        if not row or row[2].startswith("/fhir") or LEFT_ALONE.search(row[2]):
            continue
        path = row[2].replace("{*", "{")
        paths.setdefault(path, {})[row[1].lower()] = operation(row[1].lower(), row[2], csrf)
    if len(paths) < 60:
        sys.exit(f"{given.routes} has {len(paths)} routes beside FHIR's only")
    described = {"openapi": "3.0.3", "info": {"title": "Routes", "version": "1"}, "paths": paths}
    pathlib.Path(given.out).write_text(json.dumps(described, indent=1))
    print(cookie)


main()
