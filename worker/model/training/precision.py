"""Whether this CPU trains well in bfloat16: tried in a process of its own, because on some it ends with a signal."""

from __future__ import annotations

import subprocess
import sys
import time

import torch
from torch import nn

from worker.cpu import usable_cores

FASTER = 1.15
"""How much faster bfloat16 must be to be worth its rounding."""
_TIMEOUT = 60.0
_DTYPES = (torch.float32, torch.bfloat16)


def choose(wanted: str) -> str:
    """`float32` or `bfloat16`; for `auto` bfloat16 where it works here and is clearly faster."""
    if wanted != "auto":
        return wanted
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "worker.model.training.precision"], capture_output=True, text=True, timeout=_TIMEOUT
        )
        gain = float(ran.stdout) if ran.returncode == 0 else 0.0
    except (subprocess.TimeoutExpired, ValueError):
        gain = 0.0
    return "bfloat16" if gain >= FASTER else "float32"


def gain() -> float:
    """How many times faster steps of a small network are in bfloat16; 0 where they give no finite numbers."""
    torch.set_num_threads(usable_cores())
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(384, 1536), nn.GELU(), nn.Linear(1536, 384), nn.LayerNorm(384))
    given = torch.randn(1024, 384, requires_grad=True)
    best = dict.fromkeys(_DTYPES, float("inf"))
    # In turn, so that what else runs on this machine slows both.
    for dtype in _DTYPES * 10:
        start = time.perf_counter()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = layer(given).float().square().mean()
        loss.backward()
        best[dtype] = min(best[dtype], time.perf_counter() - start)
        if not torch.isfinite(loss):
            return 0.0
    return best[torch.float32] / best[torch.bfloat16]


if __name__ == "__main__":
    sys.stdout.write(f"{gain()}\n")
