"""Where a bundle is to be written, looked at before the work that makes one."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from worker.errors import BundleError
from worker.model import bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SCRATCH = ".winnow-"


def check(out: Path, source: Path | None = None) -> None:
    """See that a bundle can be written to `out`, and that nothing but another bundle is lost by it.

    Args:
        out: the bundle's folder, there already or not.
        source: the folder of the model, where it is known.

    Raises:
        BundleError: it is no place for a bundle.
    """
    try:
        if source is not None and out.exists() and out.samefile(source):
            raise BundleError(f"{out} is the folder of the model itself: name another folder for the bundle.")
        bundle.check_place(out)
        _check_replaceable(out)
        _try(out)
    except OSError as error:
        raise BundleError(
            f"No bundle can be written to {out} ({error.strerror or error}): name another folder, or change what is in "
            "the way."
        ) from None


def _check_replaceable(out: Path) -> None:
    """Files that are called as those of a bundle are one only with a manifest beside them."""
    held = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    held = [name for name in held if not name.startswith(_SCRATCH)]
    if held and bundle.MANIFEST not in held:
        raise BundleError(
            f"{out} holds {held[0]}, but no {bundle.MANIFEST}, so it is no bundle that may be replaced: name another "
            "folder."
        )


def _try(out: Path) -> None:
    """Makes a folder there and takes away all that it made: permissions alone do not tell."""
    missing = [path for path in (out.absolute(), *out.absolute().parents) if not os.path.lexists(path)]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=_SCRATCH):
            pass
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()


@contextmanager
def files() -> Iterator[None]:
    """What is done with a model's files within it ends with a sentence where the system does not let it be done.

    Raises:
        BundleError: a file cannot be read, or there is no room for one.
    """
    try:
        yield
    except OSError as error:
        what = error.filename or "A file"
        raise BundleError(
            f"{what} cannot be used ({error.strerror or error}): see to its permissions and to the room on the disk."
        ) from None
