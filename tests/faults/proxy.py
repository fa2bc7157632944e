"""A TCP proxy before a broker, that knows enough of Kafka's protocol to cut a connection on a certain response.

Every request and every response of Kafka begins with its length. A request goes on with the key of its API, the version
and a number; the response with the same number. So the proxy remembers which number asked for what.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from typing import TYPE_CHECKING

from worker.broker.ports import LOOPBACK, free_port

if TYPE_CHECKING:
    from collections.abc import Callable

END_TXN = 26
LENGTH = struct.Struct(">i")
REQUEST = struct.Struct(">hhi")
START_SECONDS = 10.0


class Proxy:
    """Passes connections on to a broker. What is done to them may be changed at any time.

    Args:
        target: the port of the broker on this machine.
        port: the proxy's own; free by default.
        seed: of the chance by which connections are reset.
    """

    def __init__(self, target: int, port: int | None = None, seed: int = 1) -> None:
        self.port = port or free_port()
        self.delay = 0.0
        """Seconds each response waits."""
        self.resets = 0.0
        """Share of responses in place of which the connection is reset."""
        self.cut: Callable[[int], bool] = lambda api: False
        """Told the key of the API of each response: whether to reset the connection in its place."""
        self.connections = 0
        self.reset = 0
        """Connections that were reset."""
        self._target = target
        self._chance = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="proxy", daemon=True)
        self._thread.start()
        assert self._ready.wait(START_SECONDS), "the proxy did not start"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, LOOPBACK, self.port))
        self._ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(self._closed())
        self._loop.close()

    async def _closed(self) -> None:
        """Aborted connections are closed by the loop, in one of its next turns."""
        for _ in range(3):
            await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            broker, to_broker = await asyncio.open_connection(LOOPBACK, self._target)
        except OSError:
            writer.transport.abort()
            return
        asked: dict[int, int] = {}
        ways = [
            asyncio.create_task(self._requests(reader, to_broker, asked)),
            asyncio.create_task(self._responses(broker, writer, asked)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for side in (writer, to_broker):
                side.transport.abort()

    async def _requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: dict[int, int]
    ) -> None:
        while frame := await _frame(reader):
            api, _, number = REQUEST.unpack_from(frame, LENGTH.size)
            asked[number] = api
            writer.write(frame)
            await writer.drain()

    async def _responses(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: dict[int, int]
    ) -> None:
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        passing = asyncio.create_task(self._pass_on(waiting, writer))
        try:
            while frame := await _frame(reader):
                api = asked.pop(LENGTH.unpack_from(frame, LENGTH.size)[0], -1)
                if self.cut(api) or self._chance.random() < self.resets:
                    self.reset += 1
                    _reset(writer)
                    return
                waiting.put_nowait((self._loop.time() + self.delay, frame))
        finally:
            passing.cancel()

    async def _pass_on(self, waiting: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        """Each response after its delay, in order: latency, and no less throughput than there was."""
        while True:
            due, frame = await waiting.get()
            await asyncio.sleep(due - self._loop.time())
            writer.write(frame)
            await writer.drain()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    """The next request or response whole, its length included; empty at the end."""
    try:
        length = await reader.readexactly(LENGTH.size)
        return length + await reader.readexactly(LENGTH.unpack(length)[0])
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


def _reset(writer: asyncio.StreamWriter) -> None:
    """Have the other side see a connection that broke, not one that ended."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def behind(proxy_port: int, port: int, inner_port: int, controller_port: int) -> dict[str, str]:
    """Properties of a broker whose clients are told the address of a proxy, but for those that know the port itself.

    Args:
        proxy_port: where the proxy listens.
        port: for clients that are to be left alone.
        inner_port: where the proxy finds the broker.
        controller_port: the broker's own.
    """

    def address(port: int) -> str:
        return f"//{LOOPBACK}:{port}"

    return {
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "listeners": f"PLAINTEXT:{address(port)},PROXIED:{address(inner_port)},CONTROLLER:{address(controller_port)}",
        "advertised.listeners": f"PLAINTEXT:{address(port)},PROXIED:{address(proxy_port)}",
    }
