"""One module a peer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.peers.adapters.arroyo import Arroyo
from bench.peers.adapters.bento import Bento
from bench.peers.adapters.loop import Loop
from bench.peers.adapters.mlserver import MLServer
from bench.peers.adapters.quix import QuixStreams
from bench.peers.adapters.spark import SparkNLP
from bench.peers.adapters.winnow import Winnow

if TYPE_CHECKING:
    from bench.peers.peer import Peer

PEERS: tuple[Peer, ...] = (Winnow(), Loop(), MLServer(), SparkNLP(), Bento(), QuixStreams(), Arroyo())
"""Winnow first: the others are compared with it."""
