"""The list of what the image holds: Debian's packages beside Python's."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "image" / "sbom.py"
STATUS = """\
Package: libstdc++6
Status: install ok installed
Architecture: amd64
Version: 1:12.2.0-14+deb12u1
Description: a library
 Version: of a description's second line

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1.0
"""
PYTHON = {"bom-ref": "numpy==2", "name": "numpy", "purl": "pkg:pypi/numpy@2", "type": "library", "version": "2"}


@pytest.fixture
def listed(tmp_path: Path) -> list[dict]:
    document, status, system = tmp_path / "sbom.json", tmp_path / "status", tmp_path / "os-release"
    document.write_text(json.dumps({"bomFormat": "CycloneDX", "components": [PYTHON]}))
    status.write_text(STATUS)
    system.write_text('NAME="Debian GNU/Linux"\nID=debian\nVERSION_ID="12"\n')
    main = runpy.run_path(str(SCRIPT))["main"]
    main(document, status, system)
    once = document.read_bytes()
    main(document, status, system)
    assert document.read_bytes() == once, "a second time adds nothing"
    return json.loads(once)["components"]


def test_debians_packages_are_added(listed: list[dict]):
    """Those that are installed, with the package URL that scanners look up; what was there stays."""
    found = {one["name"]: one for one in listed}
    assert found["numpy"] == PYTHON
    assert "gone" not in found
    package = found["libstdc++6"]
    assert package["version"] == "1:12.2.0-14+deb12u1"
    assert package["purl"] == "pkg:deb/debian/libstdc%2B%2B6@1%3A12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12"


def test_an_interpreter_that_is_no_package_is_named(listed: list[dict]):
    """Official Python images compile their own."""
    (python,) = (one for one in listed if one["name"] == "python")
    assert python["purl"] == f"pkg:generic/python@{'.'.join(map(str, sys.version_info[:3]))}"
