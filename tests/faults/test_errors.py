"""Faults 14 and 15: brokers that answer with errors, on librdkafka's cluster, which gives them to order."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.faults import faulty_cluster as apis
from tests.faults.faulty_cluster import FaultyCluster
from tests.faults.size import pick
from tests.faults.stage import EXACTLY_ONCE
from worker.errors import BrokerError, DeliveryError, TopicError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.fleet import FaultyWorker
    from tests.faults.stage import Stage

pytestmark = pytest.mark.faults

MET_WITHIN = pick(reduced=120.0, full=600.0)
"""Seconds. After some codes the worker joins its group anew each time."""
BATCH = 4
SLOW = ("--slow", "50")
PACED = {True: SLOW, False: ()}
"""Whether the feeder, which writes too, is to be done before the worker writes."""
SMALL = {"batching__max_messages": BATCH}
TIMES = pick(reduced=5, full=20)
# COORDINATOR_LOAD_IN_PROGRESS, ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, REBALANCE_IN_PROGRESS
OF_COMMITS = (14, 22, 25, 27)
# UNKNOWN_TOPIC_OR_PART, LEADER_NOT_AVAILABLE, NOT_LEADER, REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS, the same after the
# append, KAFKA_STORAGE_ERROR
WAITED_OUT = (3, 5, 6, 7, 19, 20, 56)
# MSG_SIZE_TOO_LARGE, TOPIC_AUTHORIZATION_FAILED, INVALID_RECORD
REFUSED = (10, 29, 87)
ENDS = {BrokerError.exit_code, TopicError.exit_code, DeliveryError.exit_code}
WAITED_OUT_IN_TRANSACTIONS = {3, 6, 7, 14, 15, 16, 19, 20, 51, 56}
OFTEN = (14, 15, 16, 51)
# INVALID_PRODUCER_EPOCH, INVALID_TXN_STATE, INVALID_PRODUCER_ID_MAPPING, TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
# PRODUCER_FENCED, UNKNOWN_SERVER_ERROR
SERIOUS = (47, 48, 49, 53, 90, -1)
MATRIX = {
    apis.INIT_PRODUCER_ID: (*OFTEN, 47, 49, 50, 53, 90),
    apis.ADD_PARTITIONS: (*OFTEN, 3, 29, 55, *SERIOUS),
    apis.ADD_OFFSETS: (*OFTEN, 30, 55, *SERIOUS),
    apis.TXN_OFFSET_COMMIT: (14, 15, 16, 3, 7, 12, 22, 25, 28, 30, 82, *SERIOUS),
    apis.END_TXN: (*OFTEN, *SERIOUS),
    apis.PRODUCE: (6, 7, 19, 20, 56, 10, 29, 45, 59, 87, 47, 48, 90),
}


@pytest.fixture
def cluster() -> Iterator[FaultyCluster]:
    if apis.library() is None:
        pytest.skip("needs the librdkafka of confluent_kafka's wheel as a file of its own")
    made = FaultyCluster()
    yield made
    made.stop()


def meet(play: Stage, cluster: FaultyCluster, worker: FaultyWorker, api: int, codes: list[int]) -> None:
    """Have the worker meet those errors while messages come; return when it has met all, or has ended."""
    deadline = time.monotonic() + MET_WITHIN
    if api == apis.PRODUCE:
        while not _met_writing(play, cluster, worker, codes):
            assert time.monotonic() < deadline, worker.said[-2_000:]
        return
    until = cluster.asked(api) + len(codes)
    cluster.fail(api, codes)
    while worker.running and cluster.asked(api) < until:
        play.feeder.feed(4)
        assert time.monotonic() < deadline, f"{cluster.asked(api)} of {until} requests came\n{worker.said[-2_000:]}"
        time.sleep(0.02)


def _met_writing(play: Stage, cluster: FaultyCluster, worker: FaultyWorker, codes: list[int]) -> bool:
    """The feeder writes too, and must not meet them: it writes before, and the worker's results come later."""
    play.feeder.feed(2 * BATCH * len(codes))
    until = cluster.asked(apis.PRODUCE) + len(codes)
    cluster.fail(apis.PRODUCE, codes)
    goes_on(play, worker)
    met = cluster.asked(apis.PRODUCE) >= until
    cluster.forgive(apis.PRODUCE)
    return met


def test_errors_of_commits(row, stage, cluster):
    """A refused commit is tried again or redelivered; the worker goes on."""
    figures = row(14, "commit errors 14, 22, 25, 27 (librdkafka's cluster)")
    play = stage(figures, cluster, kafka__commit_interval_ms=20)
    worker = play.worker()
    worker.wait_assigned()
    for code in OF_COMMITS:
        meet(play, cluster, worker, apis.OFFSET_COMMIT, [code] * TIMES)
        figures.runs += TIMES
        play.all_seen()
        assert worker.running, worker.said
    assert worker.terminate() == 0
    play.settle()


def test_errors_of_produce(row, stage, cluster):
    """What passes is waited out in order; what does not ends the worker, and its successor goes on where it held."""
    figures = row(14, "produce errors (librdkafka's cluster)")
    play = stage(figures, cluster, **SMALL)
    worker = play.worker(*SLOW)
    worker.wait_assigned()
    for code in WAITED_OUT:
        meet(play, cluster, worker, apis.PRODUCE, [code] * TIMES)
        figures.runs += TIMES
        play.all_seen()
        assert worker.running, worker.said
    for code in REFUSED * pick(reduced=1, full=20):
        meet(play, cluster, worker, apis.PRODUCE, [code])
        assert worker.ended() == DeliveryError.exit_code, f"{code}: {worker.said[-2_000:]}"
        figures.runs += 1
        worker = play.worker(*SLOW)
        play.all_seen()
    assert worker.terminate() == 0
    play.settle()


def test_errors_of_transactions(row, stage, cluster):
    """Every code of every call of a transaction is waited out, aborted and done again, or ends the worker with a
    documented code; what can be waited out never ends it."""
    figures = row(15, "transaction error matrix (librdkafka's cluster)", delivery=EXACTLY_ONCE, protocol="consumer")
    ended, wrong = [], []
    for api, codes in MATRIX.items():
        # Topics of its own: this cluster stores no offsets of transactions, so each start reads all there is again.
        play, worker = stage(figures, cluster, **SMALL), None
        for code in codes:
            if api == apis.INIT_PRODUCER_ID and worker is not None and worker.running:
                assert worker.terminate() == 0
            if worker is None or not worker.running:
                worker = play.worker(*PACED[api == apis.PRODUCE], wait=False)
            meet(play, cluster, worker, api, [code])
            figures.runs += 1
            if goes_on(play, worker):
                continue
            ended.append(f"{api}/{code}")
            if worker.ended() not in ENDS or code in WAITED_OUT_IN_TRANSACTIONS:
                wrong.append(f"API {api}, error {code}: exit {worker.process.returncode}: {worker.said[-500:]}")
        play.worker()
        play.all_seen()
        play.settle(aborted_shows=True)
        for one in play.workers:
            one.__exit__()
    gone_on = figures.runs - len(ended)
    figures.note = (
        f"doubles not counted: it shows what was aborted; {gone_on} of {figures.runs} codes gone on, the others ended"
    )
    assert not wrong, f"{len(wrong)} ended as they should not:\n" + "\n".join(wrong)


def goes_on(play: Stage, worker: FaultyWorker) -> bool:
    """Whether all comes out; false where the worker ends before."""
    play.reader.until(lambda: not worker.running or len(play.reader.sources) >= play.feeder.written)
    return worker.running
