"""A model bundle: one folder that holds all a worker needs of a model, checked before it is used.

    model.onnx       the graph and its weights, one file
    tokenizer.json   as the `tokenizers` library writes it
    config.json      as Hugging Face writes it: `id2label`, `problem_type`, …
    bundle.json      the manifest: digests, task, thresholds, lengths, figures, probes

Where the manifest has `early_exit`, two graphs take the place of `model.onnx`: `early.onnx`, the first layers with a
head of their own and the states that they leave, and `rest.onnx`, which goes on from those states.

A README.md, a NOTICE and LICENSE files may lie beside them; anything else is refused, but for what a writer that was
killed may have left, whose name begins with `.winnow-`: it is not read.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from pydantic import ValidationError

from worker.errors import BundleError
from worker.model import consistency
from worker.model.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    LogitsOf = Callable[[list[str]], Sequence[np.ndarray] | np.ndarray]

MODEL, TOKENIZER, CONFIG, MANIFEST = "model.onnx", "tokenizer.json", "config.json", consistency.MANIFEST
EARLY, REST = "early.onnx", "rest.onnx"
_GRAPHS = (MODEL, EARLY, REST)
_COMPANIONS = ("README", "NOTICE", "LICENSE")
_SCRATCH = ".winnow-"
# How the operators of ONNX and of ONNX Runtime begin that find their scales at run time.
_DYNAMIC = b"DynamicQuantize"
# A tensor that says `external_data { key: "location" value: … }`, as protobuf writes it.
_EXTERNAL_DATA = b"\x0a\x08location\x12"
# What of the manifest decides a result, beside the files.
_DECIDING = {"format", "task", "activation", "temperature", "thresholds", "max_length", "pad_id"}
_DECIDING_EXIT = {"layer", "layers", "temperature", "threshold", "thresholds"}


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are what its manifest says."""

    path: Path
    manifest: Manifest
    labels: tuple[str, ...]
    """In the order of their ids."""

    @property
    def model_path(self) -> Path:
        """The graph of a bundle without early exit."""
        return self.path / MODEL

    @property
    def early_path(self) -> Path:
        """The first stage of a bundle with early exit."""
        return self.path / EARLY

    @property
    def rest_path(self) -> Path:
        """The second stage of a bundle with early exit."""
        return self.path / REST

    @property
    def graph_paths(self) -> tuple[Path, ...]:
        """All graphs that there are."""
        return tuple(self.path / name for name in _graphs(self.manifest))

    @property
    def graph_bytes(self) -> int:
        """The size of all graphs."""
        return sum(path.stat().st_size for path in self.graph_paths)

    @property
    def depends_on_the_batch(self) -> bool:
        """Whether a text's scores may depend on the texts beside it: scales that are found at run time span a batch."""
        return any(_DYNAMIC in path.read_bytes() for path in self.graph_paths)

    @cached_property
    def tokenizer_json(self) -> str:
        return (self.path / TOKENIZER).read_text("utf-8")

    @cached_property
    def sha256(self) -> str:
        """The digest of everything that decides a result: the files, and how the manifest says to use them."""
        return digest_of(self.manifest)

    @property
    def digest(self) -> str:
        """The first twelve digits of `sha256`, as results carry it."""
        return self.sha256[:12]


def load(path: Path, *, digests: bool = True) -> Bundle:
    """Reads a bundle and checks every digest; the graph itself is not loaded.

    Args:
        path: the bundle's folder.
        digests: False believes the manifest, and reads no graph.

    Raises:
        BundleError: a file is missing, unexpected or changed, or bundle.json cannot be used.
    """
    if not path.is_dir():
        raise BundleError(f"{path} is not a folder: name the folder that holds the bundle's {MANIFEST}.")
    manifest = _manifest(path)
    _check_names(path, manifest)
    if digests:
        _check_content(path, manifest)
    labels = _labels(path / CONFIG)
    consistency.check(manifest, labels)
    return Bundle(path, manifest, labels)


def write(path: Path, files: Mapping[str, bytes], fields: Mapping[str, Any]) -> Bundle:
    """Writes a bundle into the new or existing folder `path`, the manifest last, and loads it.

    Args:
        path: the bundle's folder.
        files: the content of each file of the bundle but the manifest, and of companions such as README.md.
        fields: the manifest's, without `files`; whether they have `early_exit` decides which graphs are needed.

    Raises:
        BundleError: a file is missing, or what was written cannot be loaded.
    """
    manifest = Manifest.model_validate({**fields, "files": {}})
    for name in _files(manifest):
        if name not in files:
            raise BundleError(f"A bundle needs {name}: give its content.")
    digests = {name: hashlib.sha256(files[name]).hexdigest() for name in _files(manifest)}
    manifest = manifest.model_copy(update={"files": digests})
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / name).write_bytes(content)
    (path / MANIFEST).write_bytes(_document(manifest))
    return load(path)


def check_place(path: Path) -> None:
    """See that a bundle may be written to `path`, before the work that makes one.

    Raises:
        BundleError: it is a file, or a folder that holds something else than a bundle.
    """
    if path.is_file():
        raise BundleError(f"{path} is a file: name a folder for the bundle.")
    for found in sorted(path.iterdir()) if path.is_dir() else ():
        if not _belongs(found.name):
            raise BundleError(f"{path} holds {found.name}, which is no part of a bundle: name another folder.")


def replace(path: Path, files: Mapping[str, bytes], fields: Mapping[str, Any]) -> Bundle:
    """As `write`, and nothing of a bundle that was there before remains, a README of another model neither.

    The new bundle is written and loaded in a folder within `path` first, so that what cannot be used changes nothing.
    Then its files take their places one by one, the manifest last: in that moment, or where it is cut short there,
    `load` refuses what it finds, because files and digests do not match.

    Raises:
        BundleError: as `write` and `check_place`, or the folder cannot be written.
    """
    check_place(path)
    with _scratch(path) as folder:
        made = write(folder, files, fields)
        for name in sorted(os.listdir(path)):
            if name.startswith((*_COMPANIONS, *_GRAPHS)) and name not in files:
                os.replace(path / name, folder / name)
        for name in (*files, MANIFEST):
            os.replace(made.path / name, path / name)
    return load(path)


def amend(bundle: Bundle, changes: Mapping[str, Any]) -> Bundle:
    """The bundle with other fields in its manifest, such as `thresholds` or `evaluation`; its files stay.

    Raises:
        BundleError: the manifest cannot be used or written; nothing was changed.
    """
    manifest = Manifest.model_validate({**bundle.manifest.model_dump(mode="json"), **changes})
    consistency.check(manifest, bundle.labels)
    with _scratch(bundle.path) as folder:
        (folder / MANIFEST).write_bytes(_document(manifest))
        os.replace(folder / MANIFEST, bundle.path / MANIFEST)
    return load(bundle.path)


def digest_of(manifest: Manifest) -> str:
    """SHA-256 over the files' digests and the deciding fields, in canonical JSON; probes and figures are left out."""
    deciding = manifest.model_dump(mode="json", include=_DECIDING | {"files"})
    if manifest.early_exit is not None:
        # Without what is as it is by default: digests of bundles that came before a field stay what they are.
        deciding["early_exit"] = manifest.early_exit.model_dump(
            mode="json", include=_DECIDING_EXIT, exclude_defaults=True
        )
    return hashlib.sha256(orjson.dumps(deciding, option=orjson.OPT_SORT_KEYS)).hexdigest()


def check_probes(bundle: Bundle, logits_of: LogitsOf, early_logits_of: LogitsOf | None = None) -> None:
    """Runs the golden probes through `logits_of`, one at a time, so that none sees another one's padding.

    `logits_of` gives for each text its logits, [labels], or [tokens, labels] for the task `token`; `early_logits_of`
    those of the early head, where the bundle has one.

    Raises:
        BundleError: a logit is further from the expected one than the bundle tolerates.
    """
    probes = bundle.manifest.probes
    offs = [_is_off(bundle, probe.logits, logits_of([probe.text])) for probe in probes]
    if early_logits_of is not None:
        offs += [_is_off(bundle, probe.early_logits, early_logits_of([probe.text])) for probe in probes]
    off = max(offs)
    if not off <= bundle.manifest.probe_tolerance:
        raise BundleError(_probe_message(bundle, off))


def _is_off(bundle: Bundle, expected: Sequence[float], answer: Sequence[np.ndarray] | np.ndarray) -> float:
    """By how much at most; a NaN is infinitely off."""
    found = np.asarray(answer[0], np.float64)
    if found.size != len(expected) or found.shape[-1] != len(bundle.labels):
        raise BundleError(
            f"{_named(bundle)} gives logits of shape {found.shape} for a probe of {MANIFEST}, which expects "
            f"{len(expected)} numbers: the graph and the manifest belong to different models; copy the bundle "
            "again."
        )
    off = float(np.abs(found.reshape(-1) - np.array(expected)).max())
    return off if np.isfinite(off) else float("inf")


def _probe_message(bundle: Bundle, off: float) -> str:
    finding = (
        f"{_named(bundle)} computes something else on this machine than where the bundle was made: a probe's logit "
        f"is off by {off:.3g}, more than the {bundle.manifest.probe_tolerance:g} that {MANIFEST} allows; "
    )
    flags = _cpu_flags()
    if flags and not flags & {"avx512_vnni", "avx_vnni"}:
        return (
            finding + "this CPU lacks the instruction set VNNI (avx512_vnni or avx_vnni), without which INT8 products "
            "saturate: use a CPU that has it, or a bundle made with reduced range."
        )
    return finding + "use the onnxruntime version that Winnow's lock file names."


def _named(bundle: Bundle) -> str:
    return " with ".join(map(str, bundle.graph_paths))


def _document(manifest: Manifest) -> bytes:
    return orjson.dumps(manifest.model_dump(mode="json"), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


@contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    """A folder within the bundle's, which may be a mount of its own: what is in it can be moved to its place.

    Raises:
        BundleError: the folder, or what is done with it, cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path, prefix=_SCRATCH) as folder:
            yield Path(folder)
    except OSError as error:
        raise BundleError(
            f"The bundle {path} cannot be written ({error.strerror or error}): make room or change the folder's "
            "permissions, or name another one."
        ) from None


def _graphs(manifest: Manifest) -> tuple[str, ...]:
    return (MODEL,) if manifest.early_exit is None else (EARLY, REST)


def _files(manifest: Manifest) -> tuple[str, ...]:
    """What has a digest."""
    return (*_graphs(manifest), TOKENIZER, CONFIG)


def _belongs(name: str) -> bool:
    return name in (*_GRAPHS, TOKENIZER, CONFIG, MANIFEST) or name.startswith((*_COMPANIONS, _SCRATCH))


def _cpu_flags() -> frozenset[str]:
    """Instruction sets as Linux names them; empty where it does not say, or the CPU is no x86."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def _manifest(path: Path) -> Manifest:
    try:
        content = (path / MANIFEST).read_bytes()
    except OSError:
        raise BundleError(f"{path} has no {MANIFEST}: it is not a bundle; name the folder of one.") from None
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise BundleError(
            f"{path / MANIFEST} cannot be used: {where}: {first['msg']}; make the bundle again with this version of "
            "Winnow."
        ) from None


def _check_names(path: Path, manifest: Manifest) -> None:
    files = _files(manifest)
    if set(manifest.files) != set(files):
        raise BundleError(f"{path / MANIFEST} must give the digests of {', '.join(files)}: make the bundle again.")
    for name in files:
        if not (path / name).is_file():
            raise BundleError(f"{path / name} is missing: copy the bundle again.")
    for found in sorted(path.iterdir()):
        if not _belongs(found.name) or (found.name in _GRAPHS and found.name not in files):
            raise BundleError(f"{found} does not belong to the bundle: remove it.")


def _check_content(path: Path, manifest: Manifest) -> None:
    for name, expected in manifest.files.items():
        content = (path / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != expected:
            raise BundleError(
                f"{path / name} does not match its digest in {MANIFEST}: the file was changed after the bundle was "
                "written; copy the bundle again."
            )
        if name in _GRAPHS:
            _check_self_contained(content, path / name)


def _check_self_contained(model: bytes, path: Path) -> None:
    if _EXTERNAL_DATA in model:
        raise BundleError(f"{path} keeps weights in another file: save it as one file, without external data.")


def _labels(path: Path) -> tuple[str, ...]:
    try:
        by_id = {int(i): str(label) for i, label in orjson.loads(path.read_bytes())["id2label"].items()}
        labels = tuple(by_id[i] for i in range(len(by_id)))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BundleError(
            f"{path} has no id2label that numbers the labels from 0 without gaps: correct it and write the bundle "
            "again."
        ) from None
    if "" in labels:
        raise BundleError(f"{path} has no name for label {labels.index('')}: name it and write the bundle again.")
    return labels
