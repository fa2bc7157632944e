"""Runs the examples: `./dev examples --data DIR --out DIR [NAME ...]`.

An example is a page beside this file. Its first block of `sh` is what is run, with `$DATA` and `$OUT` set; the figures
of what it trained go into `results/NAME.json`, with the machine that made them, and from there into the pages.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

HERE = Path(__file__).parent
PAGES = sorted(page.stem for page in HERE.glob("*.md") if page.stem != "README")
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FIGURES = re.compile(r"(<!-- figures -->\n).*?(<!-- end -->)", re.DOTALL)
HEAD = "| run | task | texts | INT8 | FP32 | same decision | ECE | run took |\n|---|---|---|---|---|---|---|---|\n"


def main(
    data: Annotated[Path, typer.Option(help="Folder with the data sets; README.md says which and from where.")],
    out: Annotated[Path, typer.Option(help="Folder for what is trained.")],
    names: Annotated[list[str] | None, typer.Argument(help="Pages to run; all without it.")] = None,
) -> None:
    """Train and measure, and write the figures into the pages."""
    for name in names or PAGES:
        typer.echo(f"== {name}")
        save(name, run(name, data.resolve(), out.resolve()))
    for page in [*PAGES, "README"]:
        fill(page)


def run(name: str, data: Path, out: Path) -> dict[str, Any]:
    """Run a page's commands; the figures of each folder that they trained."""
    block = BLOCK.search((HERE / f"{name}.md").read_text("utf-8"))
    if block is None:
        raise typer.BadParameter(f"{name}.md has no block of sh")
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        "DATA": str(data),
        "OUT": str(folder),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    subprocess.run(["sh", "-euc", block[1]], env=environment, cwd=HERE.parent, check=True)
    runs = {path.parent.name: orjson.loads(path.read_bytes()) for path in sorted(folder.glob("*/training.json"))}
    measured = {path.stem: orjson.loads(path.read_bytes()) for path in sorted(folder.glob("*.json"))}
    return {"runs": runs, "measured": measured, "conditions": conditions()}


def save(name: str, results: dict[str, Any]) -> None:
    for each in results["runs"].values():
        for graph in ("int8", "fp32"):
            each[graph].pop("labels", None)
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / f"{name}.json").write_bytes(
        orjson.dumps(results, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    )


def conditions() -> dict[str, str]:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpu": f"{os.cpu_count()} cores, {model or platform.machine()}",
        "torch": version("torch"),
        "onnxruntime": version("onnxruntime"),
        "date": time.strftime("%Y-%m-%d"),
    }


def fill(page: str) -> None:
    """Put the table of the results between the marks of a page."""
    path = HERE / f"{page}.md"
    names = PAGES if page == "README" else [page]
    saved = {name: HERE / "results" / f"{name}.json" for name in names}
    results = {name: orjson.loads(file.read_bytes()) for name, file in saved.items() if file.exists()}
    table = HEAD + "".join(row(run_, each) for found in results.values() for run_, each in found["runs"].items())
    table += "".join(f"\n{machine}\n" for machine in dict.fromkeys(_machine(r["conditions"]) for r in results.values()))
    path.write_text(FIGURES.sub(lambda m: m[1] + table + m[2], path.read_text("utf-8")), "utf-8")


def _machine(found: dict[str, str]) -> str:
    return f"Measured on {found['cpu']}; torch {found['torch']}, onnxruntime {found['onnxruntime']}; {found['date']}."


def row(name: str, found: dict[str, Any]) -> str:
    texts = found["texts"]
    cells = [
        name,
        found["task"] + (", head alone" if found["freeze_encoder"] else ""),
        f"{texts['train']:,} / {texts['validation']:,} / {texts['test']:,}",
        headline(found["int8"]),
        headline(found["fp32"]),
        f"{found['same_decision']:.4f}",
        _error(found["int8"].get("calibration_error")),
        f"{found['seconds'] / 60:.1f} min",
    ]
    return f"| {' | '.join(cells)} |\n"


def _error(found: float | None) -> str:
    """A value has no score that could be calibrated."""
    return "–" if found is None else f"{found:.3f}"


def headline(found: dict[str, Any]) -> str:
    """The figures that the task is known by."""
    if found["task"] == "regression":
        return f"MAE {found['mean_absolute_error']:.4f}"
    if found["task"] == "token":
        return f"span F1 {found['spans']['f1']:.4f}"
    if found["task"] == "multi-label":
        return f"micro F1 {found['micro']['f1']:.4f}, macro F1 {found['macro']['f1']:.4f}"
    return f"accuracy {found['accuracy']:.4f}, macro F1 {found['macro']['f1']:.4f}"


if __name__ == "__main__":
    typer.run(main)
