"""OpenVINO with NNCF's INT8 as a candidate of `bench graph`: a process of its own, in an environment of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

if TYPE_CHECKING:
    from typing import Self

PROGRAM = Path(__file__).parent / "programs" / "openvino_int8.py"


class Setting(NamedTuple):
    """How it runs: the precision between the products, and into how many streams the threads are parted."""

    precision: str
    streams: int

    @property
    def name(self) -> str:
        return f"OpenVINO INT8, {self.precision}, {self.streams} stream{'s' * (self.streams > 1)}"


class OpenVino:
    """Quantizes an exported model and measures it on demand.

    Args:
        python: an interpreter that has openvino and nncf.
        exported: the FP32 model.
    """

    def __init__(self, python: Path, exported: Path) -> None:
        self._process = subprocess.Popen(
            [str(python), str(PROGRAM), str(exported)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.about = self._answer()
        precisions = ["f32", *(["bf16"] if self.about["bf16"] else [])]
        self.settings = [Setting(precision, streams) for precision in precisions for streams in (1, 2)]

    def settings_for(self, lanes: int) -> list[Setting]:
        """Those that make sense on so many cores."""
        return [setting for setting in self.settings if setting.streams <= lanes]

    def rate(self, setting: Setting, messages: int, tokens: int, lanes: int, seconds: float) -> float:
        """Tokens a second on as many threads as lanes."""
        asked = {**setting._asdict(), "threads": lanes, "messages": messages, "tokens": tokens, "seconds": seconds}
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps(asked) + b"\n")
        self._process.stdin.flush()
        return float(self._answer()["tokens_per_second"])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(b"{"):  # both packages print what they do
                return dict(orjson.loads(line))
        raise RuntimeError(f"OpenVINO ended with exit code {self._process.wait()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
