"""The seams of the worker, as Protocols: what the loop sees of Kafka, of the model, of time, of metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from worker.lanes import Completed
    from worker.pipeline.batches import Batch, Item
    from worker.pipeline.lag import Lag
    from worker.pipeline.ledger import Slot
    from worker.pipeline.messages import (
        Classification,
        Outgoing,
        Partial,
        Partition,
        Record,
        Rejection,
        Result,
        Unsure,
    )


class RebalanceListener(Protocol):
    """Told of partitions coming and going, always from within `Source.poll`."""

    def assigned(self, partitions: Sequence[Partition]) -> None: ...

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """Finish, or give up, what is in flight; offsets may still be committed until this returns."""

    def refused(self) -> None:
        """A commit was refused, perhaps one of a while ago: what was committed since is not certain."""

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        """A commit, perhaps one of a while ago, has taken effect."""

    def lost(self, partitions: Sequence[Partition]) -> None:
        """Give up what is in flight; somebody else has the partitions already, so nothing may be committed."""


class Source(Protocol):
    """Where records come from. Used by one thread."""

    def start(self, listener: RebalanceListener) -> None:
        """Join the group. Raises Fatal where that cannot work."""

    def poll(self, limit: int, timeout: float) -> Sequence[Record]:
        """Up to `limit` records, by partition in offset order; returns as soon as there is one.

        Args:
            limit: at least 1.
            timeout: seconds to wait for the first one.

        Raises:
            Fatal: the group, the brokers or the topics refuse.
        """

    def pause(self) -> None:
        """Deliver nothing until `resume`; polling goes on, so the group keeps this member.

        A new assignment ends the pause of all partitions.
        """

    def resume(self) -> None: ...

    def commit(self, offsets: Mapping[Partition, int], *, wait: bool) -> None:
        """Commit the next offsets to read.

        A refusal is no error: the listener is told, and the records will be committed later or redelivered. With
        `wait` it returns when the brokers have answered, or, outside of a rebalance, after a few seconds without one.
        """

    def membership(self) -> object | None:
        """Who this member of the group is, for a transaction that takes offsets.

        None where brokers could not tell from it that it is no member any more.
        """

    def committed(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """The group's next offsets to read, where there are any. Raises NotYet while the brokers do not answer."""

    @property
    def connected(self) -> bool:
        """Whether a broker was there when last heard of."""

    @property
    def resets(self) -> int:
        """Times a position was not stored any more, so that `auto.offset.reset` chose another."""

    def ends(self) -> Mapping[Partition, int]:
        """The next offset to be written, per assigned partition, as last heard from the broker."""

    def positions(self) -> Mapping[Partition, int]:
        """The next offset to be read, per assigned partition, where that is known.

        Offsets that hold no message, such as those that end a transaction, are passed over, perhaps a moment later.
        """

    def close(self) -> None:
        """Leave the group. The listener hears nothing of it."""


class Sink(Protocol):
    """Where results and dead letters go. Used by one thread."""

    def send(self, outgoing: Outgoing, delivered: Callable[[], None]) -> None:
        """Hand over a record; `delivered` is called from `poll` or `flush` once it is acknowledged."""

    def poll(self) -> None:
        """Serve acknowledgements.

        Raises:
            DeliveryError: a record could not be written.
        """

    def flush(self) -> None:
        """Begin to send what waits for company that could travel with it, without waiting for the end of that.

        May take a millisecond or two, and serve acknowledgements; what cannot be written is told by `poll`.
        """

    def close(self) -> None:
        """Give up what is not acknowledged."""


class NotYet(Exception):
    """A call of `Transactions` has not ended: make the same one again."""


class AbortNeeded(Exception):
    """The open transaction can only be aborted."""


class RenewalNeeded(Exception):
    """The transactional producer can only be made anew, which aborts its transaction."""


class Transactions(Protocol):
    """A transactional producer. Used by one thread. Each call may raise Fatal, and what it says."""

    def send(self, outgoing: Outgoing) -> None:
        """Write a record into the transaction; begin one if none is open. Raises AbortNeeded, RenewalNeeded."""

    def poll(self) -> None:
        """Serve what the brokers said."""

    def send_offsets(self, offsets: Mapping[Partition, int], membership: object) -> None:
        """Make the next offsets to read part of the transaction; begin one if none is open.

        Args:
            offsets: by partition.
            membership: what `Source.membership` says.

        Raises:
            NotYet, AbortNeeded, RenewalNeeded
        """

    def commit(self) -> None:
        """Raises NotYet, AbortNeeded, RenewalNeeded."""

    def abort(self) -> None:
        """Raises NotYet, RenewalNeeded."""

    def renew(self) -> None:
        """Make the producer anew; its open transaction is aborted. Raises NotYet."""

    def close(self) -> None:
        """Abort what is open, within a few seconds."""


class Delivery(Protocol):
    """How released slots leave and offsets follow. Used by one thread. Each call may raise Fatal."""

    @property
    def waiting(self) -> int:
        """Slots that are done but for the end of their transaction."""

    @property
    def full(self) -> bool:
        """Whether a commit should not wait for its time."""

    def send(self, slot: Slot, outgoing: Outgoing, now: float) -> None:
        """Write what became of a released slot; the ledger is told once it is settled. `now`: seconds, monotonic."""

    def flush(self) -> None:
        """Begin to send what waits for company, where it is this that sends: see `Sink.flush`."""

    def poll(self) -> None:
        """Serve what the brokers said; go on with what is under way."""

    def commit(self) -> None:
        """Commit what may be committed; it need not have happened when this returns."""

    def settle(self, partitions: Sequence[Partition] | None) -> None:
        """Have what is released of these partitions, or of all, settled soon: nothing more is to come."""

    def finish(self, partitions: Sequence[Partition] | None) -> None:
        """The last commit of these partitions, or of all."""

    def dropped(self, partitions: Sequence[Partition]) -> None:
        """The ledger has dropped these."""

    def close(self) -> None:
        """Give up what is not settled."""


class Run(Protocol):
    """One lane's right to run the model."""

    def __call__(self, items: Sequence[Item]) -> Sequence[Classification | Partial | Unsure]:
        """Classify items in one run: whole texts, and windows, of which there are scores alone.

        The first stage of a model in two gives the states of texts that have to go on; they come back as items of
        another run, with those states, of which all items of a run have some, or none.

        Any exception fails the whole run.
        """

    def terminate(self) -> None:
        """Make the present run raise, from another thread."""

    def check(self) -> None:
        """Run a text that is known to work. Raises whatever the model raises where it does not."""


class Classifier(Protocol):
    """The model, shared by all lanes."""

    def lane(self) -> Run:
        """A handle for one lane."""


class Tracing(Protocol):
    """Told of batches, and asked for the context of what is written. Used by one thread; must not raise or wait."""

    def ran(self, done: Completed) -> None:
        """A batch went through a lane."""

    def outgoing(self, slot: Slot, outgoing: Outgoing) -> Outgoing:
        """What is to be written of a slot, with its context among the headers."""

    def close(self) -> None:
        """Nothing more is to come."""


class Clock(Protocol):
    def __call__(self) -> float:
        """Seconds, monotonic."""


class Observer(Protocol):
    """Told what happens, for metrics. Must not raise and must not keep message text."""

    def consumed(self, records: int) -> None: ...

    def tombstone(self) -> None: ...

    def rewound(self, times: int) -> None:
        """A partition's offsets went backwards."""

    def reset(self, times: int) -> None:
        """What was to be read next was not stored: deleted unread, or the topic was made anew."""

    def decoded(self, records: int, seconds: float) -> None: ...

    def tokenized(self, records: int, seconds: float) -> None: ...

    def closed(self, batch: Batch) -> None: ...

    def ran(self, batch: Batch, queued: float, seconds: float) -> None:
        """A batch went through a lane: seconds waited in the lanes' queue and seconds it ran."""

    def encoded(self, records: int, seconds: float) -> None: ...

    def result(self, result: Result) -> None: ...

    def cache(self, hits: int, misses: int, size: int) -> None:
        """Texts whose result was known and those whose was not, since the start, and bytes of what is kept."""

    def dead_letter(self, rejection: Rejection) -> None: ...

    def delivered(self, timestamp: int | None, worker_seconds: float, seconds: float) -> None:
        """A result or dead letter was acknowledged; exactly once, it was committed.

        Args:
            timestamp: of its record, in milliseconds since the epoch.
            worker_seconds: since its record was polled.
            seconds: since it was handed over to be delivered.
        """

    def committed(self, offsets: Mapping[Partition, int]) -> None: ...

    def aborted(self) -> None:
        """A transaction was aborted; what it held will be written again."""

    def state(self, in_flight: int, paused: bool, lanes_busy: int) -> None: ...

    def paused(self, seconds: float) -> None:
        """The partitions were paused, or are still, for so much longer."""

    def rebalanced(self, kind: str, assigned: Sequence[Partition], given_up: int, seconds: float) -> None:
        """Partitions came or went; `assigned` are those this worker has now."""

    def connected(self, connected: bool) -> None:
        """Whether a broker is there."""

    def lag(self, lags: Mapping[Partition, Lag]) -> None:
        """How far behind each partition is that this worker has and has read of."""
