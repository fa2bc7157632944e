"""How docs/peers.md has the jars of Spark NLP locked, by Maven itself, which is fetched as the broker's jars are."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

import pytest

from tests import docs_session, documents, maven
from tests.documents import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PEERS = "bench/peers"
SMALL = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>winnow.bench</groupId>
  <artifactId>spark-nlp</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""
"""What somebody might edit it to: two jars in the place of a hundred, 300 MB of them."""
SECONDS = 240.0


@pytest.mark.docs
@pytest.mark.timeout(SECONDS + 60)
def test_maven_locks_what_the_pom_asks_for(tmp_path: Path):
    """From an edited pom.xml to jars.lock: each jar that Maven resolved, with the digest of the file."""
    (block,) = documents.run_by(__file__)
    program = maven.obtained_or_skip(tmp_path / "maven")
    docs_session.commands(tmp_path)
    shutil.copytree(ROOT / "bench", tmp_path / "bench", ignore=shutil.ignore_patterns("__pycache__", "results"))
    spark = tmp_path / PEERS / "spark"
    (spark / "pom.xml").write_text(SMALL, "utf-8")
    (tmp_path / "bin" / "mvn").symlink_to(program)
    environment = docs_session.environment(tmp_path) | maven.environment()
    docs_session.Session(tmp_path, environment, seconds=SECONDS).run(block)
    locked = [line.split() for line in (spark / "jars.lock").read_text("ascii").splitlines() if line[:1] != "#"]
    assert [coordinate for coordinate, _ in locked] == ["org.slf4j:slf4j-api:1.7.36", "org.slf4j:slf4j-simple:1.7.36"]
    for coordinate, digest in locked:
        _, name, version = coordinate.split(":")
        assert digest == hashlib.sha256((spark / "build" / "jars" / f"{name}-{version}.jar").read_bytes()).hexdigest()
