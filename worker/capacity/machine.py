"""What the machine is, as far as it decides how fast a model runs."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import NamedTuple

CPUINFO = Path("/proc/cpuinfo")
INSTRUCTION_SETS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "amx_bf16")
"""Those that INT8 products depend on, by Linux's names."""


class Cpu(NamedTuple):
    """A CPU and those of `INSTRUCTION_SETS` that it has."""

    model: str
    instruction_sets: tuple[str, ...]


def cpu(info: Path = CPUINFO) -> Cpu:
    """This machine's CPU; where the kernel does not list flags, no instruction sets."""
    try:
        text = info.read_text("utf-8", "replace")
    except OSError:
        text = ""
    model = re.search(r"^model name\s*: (.*)$", text, re.M)
    flags = re.search(r"^flags\s*: (.*)$", text, re.M)
    known = set(flags.group(1).split()) if flags else set()
    name = model.group(1).strip() if model else platform.processor() or platform.machine()
    return Cpu(name, tuple(each for each in INSTRUCTION_SETS if each in known))


def load() -> float:
    """Processes that ran or waited to, on average over the last minute; 0 where the platform does not say."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return 0.0
