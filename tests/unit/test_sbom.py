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
def site(tmp_path: Path) -> Path:
    """Of the base image's interpreter: what its pip installed, and numpy as in the worker's environment."""
    folder = tmp_path / "site-packages"
    for name, version in (("pip", "24.0"), ("Some_Package", "1!2+local"), ("numpy", "2")):
        about = folder / f"{name}-{version}.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return folder


@pytest.fixture
def listed(tmp_path: Path, site: Path) -> list[dict]:
    document, status, system = tmp_path / "sbom.json", tmp_path / "status", tmp_path / "os-release"
    document.write_text(json.dumps({"bomFormat": "CycloneDX", "components": [PYTHON]}))
    status.write_text(STATUS)
    system.write_text('NAME="Debian GNU/Linux"\nID=debian\nVERSION_ID="12"\n')
    main = runpy.run_path(str(SCRIPT))["main"]
    main(document, status, system, [str(site)])
    once = document.read_bytes()
    main(document, status, system, [str(site)])
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


def test_packages_of_the_base_image_are_added(listed: list[dict]):
    """Its pip is no package of Debian's and not in the worker's environment; what both have is there once."""
    purls = [one["purl"] for one in listed if one["purl"].startswith("pkg:pypi/")]
    assert sorted(purls) == ["pkg:pypi/numpy@2", "pkg:pypi/pip@24.0", "pkg:pypi/some-package@1%212%2Blocal"]


def test_python_packages_of_debian_are_listed_once(site: Path):
    """As Debian's, by the status of dpkg."""
    script = runpy.run_path(str(SCRIPT))
    assert list(script["packages"]([script["DEBIANS"]])) == []
    assert len(list(script["packages"]([script["DEBIANS"], str(site)]))) == 3
