"""What the model's runtime would report of a user to its maker."""

from __future__ import annotations

import os
import subprocess
import sys

SCRIPT = "from worker import Classifier; print(Classifier()('hello').label)"


def test_the_runtime_reports_nothing(tmp_path):
    """A program that classifies leaves neither the identifier nor the store of onnxruntime's telemetry behind."""
    suppressing = {"CI", "GITHUB_ACTIONS", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in suppressing}
    environment |= {"HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ham\n"), done.stderr
    assert list(tmp_path.rglob("*")) == []
