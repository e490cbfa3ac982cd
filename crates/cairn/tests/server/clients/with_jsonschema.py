"""Holds files against a JSON Schema by `jsonschema`, read as YAML 1.2 by `ruamel.yaml`.

`with_jsonschema.py SCHEMA FILE...` prints an object of JSON in a line for each file: its name and what is wrong with it.
"""

import json
import sys

from jsonschema import Draft202012Validator
from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor

# YAML 1.2 has no dates: they are texts.
SafeConstructor.add_constructor(
    "tag:yaml.org,2002:timestamp", lambda constructor, node: constructor.construct_scalar(node)
)


def named(value):
    """Members of JSON are named by texts."""
    if isinstance(value, dict):
        return {str(name): named(member) for name, member in value.items()}
    if isinstance(value, list):
        return [named(item) for item in value]
    return value


yaml = YAML(typ="safe", pure=True)
# What older YAML took for true and false, and for so many minutes.
assert yaml.load("{yes: no, at: 09:00, on: 2026-11-02}") == {"yes": "no", "at": "09:00", "on": "2026-11-02"}

with open(sys.argv[1], encoding="utf-8") as file:
    schema = json.load(file)
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
for name in sys.argv[2:]:
    with open(name, encoding="utf-8") as file:
        read = named(yaml.load(file))
    wrong = [f"{error.json_path}: {error.message}"[:200] for error in validator.iter_errors(read)]
    print(json.dumps({"file": name, "wrong": wrong}))
