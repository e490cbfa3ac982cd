"""An OpenAPI description of FHIR here, made from the server's CapabilityStatement, for a tool that reads no other.

Some types stand for all, because all go the same ways; the parameters of each are those that the server names."""

import argparse
import json
import pathlib
import ssl
import urllib.error
import urllib.request

TYPES = ["Patient", "Observation", "Consent", "Task", "DocumentReference", "Practitioner", "AuditEvent"]
FHIR = {"application/fhir+json": {"schema": {"type": "object", "required": ["resourceType"]}}}
STATUSES = ["200", "201", "202", "204", "304", "400", "401", "403", "404", "405", "406", "409", "410", "412", "413", "415", "422", "429"]


def answers():
    return {status: {"description": "", "content": FHIR} if status not in ("204", "304") else {"description": ""} for status in STATUSES}


def parameter(name, where, schema=None):
    return {"name": name, "in": where, "required": where == "path", "schema": schema or {"type": "string"}}


def resource(kind):
    schema = {
        "type": "object",
        "required": ["resourceType"],
        "properties": {
            "resourceType": {"type": "string", "enum": [kind]},
            "id": {"type": "string"},
            "meta": {"type": "object"},
            "status": {"type": "string"},
            "identifier": {"type": "array", "items": {"type": "object", "properties": {"system": {"type": "string"}, "value": {"type": "string"}}}},
            "subject": {"type": "object", "properties": {"reference": {"type": "string"}}},
            "extension": {"type": "array", "items": {"type": "object"}},
        },
    }
    return {"required": True, "content": {"application/fhir+json": {"schema": schema}}}


def main():
    arguments = argparse.ArgumentParser()
    for name in ["base", "ca", "token", "out"]:
        arguments.add_argument(f"--{name}", required=True)
    given = arguments.parse_args()
    token = pathlib.Path(given.token).read_text().strip()
    context = ssl.create_default_context(cafile=given.ca)
    with urllib.request.urlopen(given.base + "/fhir/r4/metadata", context=context) as answer:
        statement = json.load(answer)
    known = {entry["type"]: entry for entry in statement["rest"][0]["resource"]}

    def ids(kind):
        """Some that there are, so that more is looked at than what is missing, and one that there isn't."""
        request = urllib.request.Request(f"{given.base}/fhir/r4/{kind}?_count=3&_elements=id", headers={"Authorization": f"Bearer {token}"})
        try:
            with urllib.request.urlopen(request, context=context) as answer:
                found = json.load(answer).get("entry", [])
        except urllib.error.HTTPError as error:
            # Some types are not this role's; a token that opens nothing would make all of the scan say nothing.
            if error.code != 403:
                raise
            found = []
        return [entry["resource"]["id"] for entry in found] + ["nobody"]

    def identifier(kind):
        return parameter("id", "path", {"type": "string", "enum": ids(kind)})

    every = ["_id", "_lastUpdated", "_count", "_sort", "_summary", "_elements", "_include", "_revinclude", "_has", "_filter", "_cursor", "_total", "_format"]
    paths = {
        "/metadata": {"get": {"responses": answers()}},
        "/_history": {"get": {"parameters": [parameter(name, "query") for name in ["_since", "_at", "_count", "_cursor"]], "responses": answers()}},
        "/": {
            "get": {"parameters": [parameter("_type", "query"), *[parameter(name, "query") for name in every]], "responses": answers()},
            "post": {"requestBody": resource("Bundle"), "responses": answers()},
        },
        "/$export": {"get": {"parameters": [parameter(name, "query") for name in ["_type", "_since", "_outputFormat", "_typeFilter"]], "responses": answers()}},
        "/Patient/{id}/$everything": {"get": {"parameters": [identifier("Patient"), parameter("_since", "query"), parameter("_count", "query")], "responses": answers()}},
        "/Patient/{id}/{of}": {"get": {"parameters": [identifier("Patient"), parameter("of", "path", {"type": "string", "enum": ["Observation", "Task", "*"]})], "responses": answers()}},
        "/Observation/$lastn": {"get": {"parameters": [parameter("patient", "query"), parameter("max", "query")], "responses": answers()}},
    }
    for kind in TYPES:
        own = [entry["name"] for entry in known[kind].get("searchParam", [])]
        parameters = [parameter(name, "query") for name in dict.fromkeys([*every, *own])]
        paths[f"/{kind}"] = {
            "get": {"parameters": parameters, "responses": answers()},
            "post": {"requestBody": resource(kind), "parameters": [parameter("If-None-Exist", "header")], "responses": answers()},
        }
        one = identifier(kind)
        paths[f"/{kind}/{{id}}"] = {
            "get": {"parameters": [one, parameter("_elements", "query"), parameter("If-None-Match", "header")], "responses": answers()},
            "put": {"parameters": [one, parameter("If-Match", "header")], "requestBody": resource(kind), "responses": answers()},
            "delete": {"parameters": [one], "responses": answers()},
        }
        paths[f"/{kind}/{{id}}/_history"] = {"get": {"parameters": [one, parameter("_count", "query"), parameter("_since", "query")], "responses": answers()}}
        paths[f"/{kind}/{{id}}/_history/{{version}}"] = {"get": {"parameters": [one, parameter("version", "path", {"type": "string", "enum": ["1", "2", "0"]})], "responses": answers()}}
        paths[f"/{kind}/$validate"] = {"post": {"requestBody": resource(kind), "parameters": [parameter("mode", "query")], "responses": answers()}}
    described = {"openapi": "3.0.3", "info": {"title": "FHIR", "version": "4.0.1"}, "paths": paths}
    pathlib.Path(given.out).write_text(json.dumps(described, indent=1))
    print(f"{sum(len(path) for path in paths.values())} operations")


main()
