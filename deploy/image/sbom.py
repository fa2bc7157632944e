"""The list of what the image holds, as CycloneDX: `sbom.py DOCUMENT [STATUS [OS_RELEASE]]`.

DOCUMENT is what `cyclonedx-py` wrote of the worker's environment. Debian's packages are added to it from dpkg's STATUS,
and the interpreter that runs this with its own packages, as far as they are none of Debian's. The result replaces it.
Standard library only: it runs in the image's build.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

STATUS = Path("/var/lib/dpkg/status")
OS_RELEASE = Path("/etc/os-release")
DEBIANS = "/usr/lib/python3/dist-packages"
"""Python packages that dpkg lists."""


def main(
    document: Path, status: Path = STATUS, os_release: Path = OS_RELEASE, folders: Iterable[str] = tuple(sys.path)
) -> None:
    listed = json.loads(document.read_text("utf-8"))
    system = released(os_release.read_text("utf-8"))
    debian = [component(package, system) for package in installed(status.read_text("utf-8"))]
    added = [*debian, *interpreter({one["name"] for one in debian}), *packages(folders)]
    known = {one.get("purl") for one in listed["components"]}
    listed["components"] += {one["purl"]: one for one in added if one["purl"] not in known}.values()
    listed["components"].sort(key=lambda one: str(one["bom-ref"]))
    document.write_text(json.dumps(listed, indent=1, sort_keys=True) + "\n", "utf-8")


def installed(status: str) -> Iterator[dict[str, str]]:
    """Paragraphs of dpkg's status file, of packages that are installed."""
    for paragraph in status.split("\n\n"):
        lines = [line.partition(": ") for line in paragraph.splitlines() if not line.startswith(" ")]
        package = {name: value.strip() for name, _, value in lines}
        if package.get("Status", "").endswith(" installed"):
            yield package


def released(os_release: str) -> dict[str, str]:
    lines = [line.partition("=") for line in os_release.splitlines()]
    return {name: value.strip('"') for name, _, value in lines}


def component(package: dict[str, str], system: dict[str, str]) -> dict[str, Any]:
    """As the package URL specification has Debian's packages."""
    name, version = package["Package"], package["Version"]
    distribution = f"{system.get('ID', 'debian')}-{system.get('VERSION_ID', '')}".rstrip("-")
    purl = (
        f"pkg:deb/{system.get('ID', 'debian')}/{quote(name, safe='')}@{quote(version, safe='')}"
        f"?arch={package['Architecture']}&distro={distribution}"
    )
    return {"bom-ref": purl, "name": name, "purl": purl, "type": "library", "version": version}


def interpreter(debian: set[str]) -> list[dict[str, Any]]:
    """Python itself, where the base image compiled its own."""
    if f"python{sys.version_info.major}.{sys.version_info.minor}-minimal" in debian:
        return []
    purl = f"pkg:generic/python@{platform.python_version()}"
    return [{"bom-ref": purl, "name": "python", "purl": purl, "type": "platform", "version": platform.python_version()}]


def packages(folders: Iterable[str]) -> Iterator[dict[str, Any]]:
    """What is installed for the interpreter in folders that are not Debian's; official images have pip there."""
    for found in importlib.metadata.distributions(path=[folder for folder in folders if folder != DEBIANS]):
        purl = f"pkg:pypi/{quote(found.name.lower().replace('_', '-'), safe='')}@{quote(found.version, safe='')}"
        yield {"bom-ref": purl, "name": found.name, "purl": purl, "type": "library", "version": found.version}


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
