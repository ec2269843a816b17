#!/usr/bin/env python3
"""Writes what the program is made of for a target of rustc ($1) into a file ($2): CycloneDX 1.6, JSON.

The packages are those that cargo links for this target, without what only builds or tests; names, versions, licences and
checksums are cargo's own (`cargo tree`, `cargo metadata`, Cargo.lock). The same source gives the same file: its time is
SOURCE_DATE_EPOCH, else that of the commit.
"""

import json
import os
import subprocess
import sys
import tomllib
import uuid
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = "kafka-external-access"


def run(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def linked(target: str) -> set[tuple[str, str]]:
    """Name and version of each package, the program's own among them."""
    tree = run("cargo", "tree", "--locked", "--package", PACKAGE, "--edges", "normal", "--target", target,
               "--prefix", "none", "--format", "{p}")
    words = (line.split() for line in tree.splitlines())
    return {(name, version.removeprefix("v")) for name, version, *_ in words}


def purl(name: str, version: str) -> str:
    return f"pkg:cargo/{name}@{version}"


def component(package: dict, checksums: dict) -> dict:
    name, version = package["name"], package["version"]
    # `/` is an old spelling of `OR`.
    licence = (package["license"] or "NOASSERTION").replace("/", " OR ")
    made = {
        "type": "library",
        "bom-ref": purl(name, version),
        "name": name,
        "version": version,
        "licenses": [{"expression": licence}],
        "purl": purl(name, version),
    }
    if package["description"]:
        made["description"] = " ".join(package["description"].split())
    if package["repository"]:
        made["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    if (name, version) in checksums:
        made["hashes"] = [{"alg": "SHA-256", "content": checksums[name, version]}]
    return made


def bill(target: str) -> dict:
    metadata = json.loads(run("cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target))
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    checksums = {(p["name"], p["version"]): p["checksum"] for p in lock["package"] if "checksum" in p}
    kept = linked(target)
    packages = {p["id"]: p for p in metadata["packages"] if (p["name"], p["version"]) in kept}
    components = {package["name"]: [] for package in packages.values()}
    for package in packages.values():
        components[package["name"]].append(component(package, checksums))
    (program,) = components.pop(PACKAGE)
    program["type"] = "application"
    program["bom-ref"] = program["purl"]

    # The standard library, and with it musl, is in the program as well.
    toolchain = run("rustc", "--version").split()[1]
    standard = {
        "type": "library",
        "bom-ref": f"pkg:generic/rust-std@{toolchain}",
        "name": "rust-std",
        "version": toolchain,
        "description": f"Rust's standard library for {target}; for targets of musl with musl's C library",
        "licenses": [{"expression": "MIT OR Apache-2.0"}],
        "purl": f"pkg:generic/rust-std@{toolchain}",
    }
    edges = []
    for node in metadata["resolve"]["nodes"]:
        if node["id"] not in packages:
            continue
        package = packages[node["id"]]
        needed = (d["pkg"] for d in node["deps"] if any(kind["kind"] is None for kind in d["dep_kinds"]))
        refs = {purl(packages[one]["name"], packages[one]["version"]) for one in needed if one in packages}
        if package["name"] == PACKAGE:
            refs.add(standard["bom-ref"])
        edges.append({"ref": purl(package["name"], package["version"]), "dependsOn": sorted(refs)})
    edges.append({"ref": standard["bom-ref"], "dependsOn": []})

    everything = [one for name in sorted(components) for one in sorted(components[name], key=lambda c: c["version"])]
    committed = int(os.environ.get("SOURCE_DATE_EPOCH") or run("git", "log", "-1", "--format=%ct"))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, f"{program['purl']}?target={target}&at={committed}").urn,
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(committed, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": program,
            "properties": [{"name": "target", "value": target}],
        },
        "components": [*everything, standard],
        "dependencies": sorted(edges, key=lambda edge: edge["ref"]),
    }


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("usage: sbom.py TARGET FILE")
    target, file = sys.argv[1:]
    Path(file).write_text(json.dumps(bill(target), indent=1, ensure_ascii=False) + "\n")


main()
