"""The error tree: what each kind asks of the caller."""

from __future__ import annotations

import inspect

import pytest

from worker import errors
from worker.errors import Fatal, InvalidMessage, WinnowError

FATAL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Fatal)]


def test_exit_codes_are_distinct_and_clear_of_the_shells():
    """Each fatal kind has its own exit code, neither success nor a signal's."""
    codes = [kind.exit_code for kind in FATAL]
    assert len(set(codes)) == len(codes)
    assert all(0 < code < 126 for code in codes)


@pytest.mark.parametrize("kind", [kind for kind in FATAL if kind is not Fatal])
def test_the_tree_at_the_top_shows_every_kind_with_its_code(kind: type[Fatal]):
    """The drawing in the module's docstring is the tree."""
    line = next(line for line in (errors.__doc__ or "").splitlines() if kind.__name__ in line)
    assert f" {kind.exit_code} " in line


def test_an_invalid_message_is_not_fatal():
    """What is wrong with one message never ends the process."""
    error = InvalidMessage("empty", "The message has no value.")
    assert (error.reason, str(error)) == ("empty", "The message has no value.")
    assert isinstance(error, WinnowError)
    assert not isinstance(error, Fatal)
