"""Free loopback ports."""

from __future__ import annotations

import random
import socket
from collections import deque

LOOPBACK = "127.0.0.1"
# Below the range from which Linux takes the local end of connections (32768 and up): there, a client that keeps
# trying while its broker is down would one day be given that very port, and connect to itself.
_RANGE = range(20_000, 32_000)
_given: deque[int] = deque(maxlen=1_000)


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        # As the JVM does: a port whose last connections are still in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen()
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port nobody listens on; random, so that two programs asking at once seldom get the same.

    One that this process was given lately is not given again: its server may not listen yet.
    """
    drawn = iter(lambda: random.choice(_RANGE), None)
    port = next(port for port in drawn if port not in _given and is_free(port))
    _given.append(port)
    return port
