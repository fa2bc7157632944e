"""What can go wrong, named by what the caller does about it.

    WinnowError
    ├── InvalidMessage      this one message becomes a dead letter; its neighbours go on
    └── Fatal               the process ends with `exit_code`; nothing unfinished is committed
        ├── ConfigError     2   a setting, a flag or an input file is wrong
        ├── BundleError     3   the model bundle is missing, damaged or does not fit this machine
        ├── BrokerError     4   the brokers cannot be reached, or refuse what the worker must do
        ├── TopicError      5   a topic is missing or cannot serve as it is configured; too many messages were refused
        ├── DeliveryError   6   a result or a dead letter could not be written; its offset is held
        ├── StageError      7   a thread of the worker died or hung; with this code a shutdown that hangs is cut, too
        ├── AuditError      8   an audit found messages lost, doubled, out of order or answered wrongly
        └── SetupError      9   a worker could not run, or not safely, as it is set up

Every message is one or two sentences that name the thing and the mend. None holds message text.
"""

from __future__ import annotations

from typing import ClassVar


class WinnowError(Exception):
    """Base of everything Winnow raises on purpose."""


class InvalidMessage(WinnowError):
    """One message cannot be classified.

    Attributes:
        reason: a short fixed word for metrics and headers, e.g. `invalid-json`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Fatal(WinnowError):
    """The process cannot go on."""

    exit_code: ClassVar[int] = 1


class ConfigError(Fatal):
    exit_code = 2


class BundleError(Fatal):
    exit_code = 3


class BrokerError(Fatal):
    exit_code = 4


class TopicError(Fatal):
    exit_code = 5


class DeliveryError(Fatal):
    exit_code = 6


class StageError(Fatal):
    exit_code = 7


class AuditError(Fatal):
    exit_code = 8


class SetupError(Fatal):
    exit_code = 9
