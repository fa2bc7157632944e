"""Ctrl-C, as a terminal sends it to a real process."""

import os
import signal
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="needs the extra [train]")

from tests.unit.model.training.tiny import Watch, lines, written
from worker.model.training.run import Options
from worker.model.training.run import train as train_all

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("default"),
    pytest.mark.timeout(600),
    pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a process is bound to one core on Linux alone"),
]
EPOCHS = 20


def command(base, data, out):
    settings = {"--epochs": EPOCHS, "--patience": EPOCHS, "--precision": "float32", "--min-agreement": 0}
    words = [word for pair in (settings | {"--max-metric-drop": 1}).items() for word in map(str, pair)]
    return [
        sys.executable, "-m", "worker", "train", "--base", base, "--data", str(data), "--out", str(out), *words,
    ]  # fmt: skip


def on_one_core():
    """With as many threads as in this process: sums run in the same order."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def test_ctrl_c_leaves_what_a_resume_goes_on_from(tmp_path, encoders):
    """Exit code 130 and one sentence; resumed, the weights are those of a training that was never stopped."""
    data, out = written(tmp_path / "train.jsonl", lines("single-label", 240)), tmp_path / "out"
    given = command(encoders["distilbert"], data, out)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "preexec_fn": on_one_core}
    pipes["env"] = os.environ | {"COLUMNS": "200"}
    with subprocess.Popen(given, **pipes) as process:
        while not (line := process.stderr.readline()).startswith("epoch 1:"):
            assert line, "it ended before it had begun"
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=240)[1]
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == f"winnow: stopped; the same command with --resume goes on from what {out} holds."
    assert "Traceback" not in said
    assert not (out / "hf").exists()

    # In this process: starting one takes far longer than the training.
    settings = {"epochs": EPOCHS, "patience": EPOCHS, "precision": "float32"}
    gate = {"min_agreement": 0, "max_metric_drop": 1}
    for folder, resume in ((out, True), (tmp_path / "whole", False)):
        train_all(Options(encoders["distilbert"], data, folder, **settings, **gate, resume=resume), Watch())
    weights = [folder / "hf/model.safetensors" for folder in (out, tmp_path / "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
