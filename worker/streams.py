"""Streams for asyncio, a part at a time, and work in threads that is never abandoned halfway."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable

T = TypeVar("T")
AT_ONCE = 512
"""Texts of a part at most."""


class _End(NamedTuple):
    """What follows the last text of a source."""

    why: Exception | None
    """Where it failed."""


async def to_its_end(function: Callable[..., T], *arguments: Any) -> T:
    """What a function returns in a thread. Who is cancelled waits for it, so that nothing is closed under it."""
    running = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        running.exception()  # which nobody will ask for
        raise


async def parts(texts: Iterable[str]) -> AsyncGenerator[list[str]]:
    """What is read of an ordinary source at a time, in a thread: reading may block."""
    left = iter(texts)
    while chunk := await to_its_end(list[str], islice(left, AT_ONCE)):
        yield chunk


async def as_they_come(texts: AsyncIterable[str]) -> AsyncGenerator[list[str]]:
    """What has come of an asynchronous source at a time, `AT_ONCE` at most."""
    queue: asyncio.Queue[str | _End] = asyncio.Queue(AT_ONCE)

    async def pump() -> None:
        why = None
        try:
            async for text in texts:
                await queue.put(text)
        except Exception as error:  # noqa: BLE001 - raised again where the texts are read
            why = error
        await queue.put(_End(why))

    pumping = asyncio.ensure_future(pump())
    try:
        end: _End | None = None
        while end is None:
            chunk: list[str] = []
            one = await queue.get()
            while not isinstance(one, _End):
                chunk.append(one)
                if queue.empty() or len(chunk) == AT_ONCE:
                    break
                one = queue.get_nowait()
            else:
                end = one
            if chunk:
                yield chunk
        if end.why is not None:
            raise end.why
    finally:
        pumping.cancel()
        await asyncio.wait([pumping])
