"""Puts the findings of all tools into one list, and says which are new: not named in the list of known ones."""

import argparse
import json
import pathlib
import re
import sys
import xml.etree.ElementTree as tree

# What testssl.sh calls findings; INFO and OK are none.
BAD = {"LOW", "MEDIUM", "HIGH", "CRITICAL", "WARN", "FATAL"}


def tls(out):
    for entry in json.loads((out / "testssl.json").read_text()):
        if entry["severity"] in BAD:
            yield f"testssl {entry['id'].split()[0]}", f"{entry['severity']} {entry['finding']}"
        if entry["id"] == "overall_grade":
            print(f"testssl.sh's grade: {entry['finding']}")


# How many pages a scan has to have seen: nobody sees the sign-in and what leads from it; each role its own pages.
# Fewer mean that the sign-in failed or that time ran out, and that nothing was found says nothing then.
PAGES_OF_NOBODY = 4
PAGES_OF_ROLE = 20


def pages(out):
    reports = sorted(out.glob("wapiti-*.json"))
    if len(reports) < 2:
        yield "wapiti run", f"there are {len(reports)} reports: nobody and each role have one"
    for report in reports:
        told = json.loads(report.read_text())
        seen = told.get("infos", {}).get("crawled_pages_nbr") or 0
        wanted = PAGES_OF_NOBODY if report.stem == "wapiti-nobody" else PAGES_OF_ROLE
        if seen < wanted:
            yield "wapiti run", f"{report.stem}: it saw {seen} pages only, and at least {wanted} are wanted"
        for sort in ["vulnerabilities", "anomalies", "additionals"]:
            for name, found in told.get(sort, {}).items():
                for one in found:
                    path = re.sub(r"[0-9a-f]{16,}", "ID", one["path"])
                    what = f"{report.stem} {one['method']} {path}: {one['info']}"
                    yield f"wapiti {name} {path}", what


def fhir(out):
    reports = [report for report in sorted(out.glob("schemathesis-*.xml")) if not report.stem.startswith("schemathesis-routes-")]
    yield from operations(reports, 20)


def routes(out):
    yield from operations(sorted(out.glob("schemathesis-routes-*.xml")), 90)


def operations(reports, wanted):
    if len(reports) < 4:
        yield "schemathesis run", f"there are {len(reports)} reports: each who asks has one"
    for report in reports:
        cases = 0
        for case in tree.parse(report).iter("testcase"):
            cases += 1
            for found in [*case.iter("failure"), *case.iter("error")]:
                yield f"schemathesis {case.get('name')}", f"{report.stem} {case.get('name')}: {(found.get('message') or found.text or '')[:600]}"
        if cases < wanted:
            yield "schemathesis run", f"{report.stem}: it looked at {cases} operations only"


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--out", required=True)
    arguments.add_argument("--known", required=True)
    arguments.add_argument("parts", nargs="+")
    given = arguments.parse_args()
    out = pathlib.Path(given.out)
    known = []
    for line in pathlib.Path(given.known).read_text().splitlines():
        if line and not line.startswith("#"):
            pattern, reason = line.split("\t")
            if not reason.strip():
                sys.exit(f"a known finding without a reason: {pattern}")
            known.append((re.compile(pattern), reason, pattern))
    used, new, count = set(), [], 0
    for part in given.parts:
        for name, what in {"tls": tls, "pages": pages, "fhir": fhir, "routes": routes}[part](out):
            count += 1
            for matches, reason, pattern in known:
                if matches.fullmatch(name):
                    used.add(pattern)
                    break
            else:
                new.append(f"{name}\n    {what}")
    (out / "findings.txt").write_text("\n".join(dict.fromkeys(new)) + "\n")
    for pattern in [pattern for _, _, pattern in known if pattern not in used]:
        print(f"not found in this run: {pattern}")
    print(f"{count} findings, {len(dict.fromkeys(new))} of them new")
    for one in list(dict.fromkeys(new))[:40]:
        print(one)
    sys.exit(1 if new else 0)


main()
