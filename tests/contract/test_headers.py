"""Names of headers that are not UTF-8, which Python's client can neither read nor write."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING

import confluent_kafka
import pytest

from tests.contract.worlds import SECONDS, KafkaWorld, Listener, read

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.broker import Broker


def produce_raw(bootstrap_servers: str, topic: str, messages: Sequence[tuple[bytes, bytes | None]]) -> None:
    """Write values, each with the name of a header or None, as only a client in C can: names of any bytes."""
    found = list(Path(confluent_kafka.__file__).parents[1].glob("confluent_kafka.libs/librdkafka*"))
    if not found:
        pytest.skip("needs the librdkafka of confluent_kafka's wheel as a file of its own")
    lib = ctypes.CDLL(str(found[0]))
    for name in ("rd_kafka_conf_new", "rd_kafka_new"):
        getattr(lib, name).restype = ctypes.c_void_p
    why, pointer, text, size = ctypes.create_string_buffer(512), ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    conf = pointer(lib.rd_kafka_conf_new())
    assert lib.rd_kafka_conf_set(conf, b"bootstrap.servers", bootstrap_servers.encode(), why, size(512)) == 0, why.value
    client = pointer(lib.rd_kafka_new(0, conf, why, size(512)))
    assert client.value, why.value
    # Arguments of rd_kafka_producev come as a kind and what belongs to it: 1 topic, 3 partition, 4 value, 9 header.
    kind = ctypes.c_int
    for value, header in messages:
        arguments = [kind(1), text(topic.encode()), kind(3), ctypes.c_int32(0), kind(4), text(value), size(len(value))]
        if header is not None:
            arguments += [kind(9), text(header), text(b"v"), ctypes.c_ssize_t(1)]
        assert lib.rd_kafka_producev(client, *arguments, kind(0)) == 0
    assert lib.rd_kafka_flush(client, int(SECONDS * 1000)) == 0
    lib.rd_kafka_destroy(client)


@pytest.mark.kafka
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_header_name_that_is_not_utf8_harms_no_neighbour(kafka: Broker, topics: Callable[..., str], protocol: str):
    """Its record comes in its place, with its value and marked as unreadable; those around it come as they are."""
    world = KafkaWorld(kafka, topics, protocol)
    produce_raw(
        kafka.bootstrap_servers, world.topic, [(b"before", b"fine"), (b"marked", b"caf\xe9\xff"), (b"after", None)]
    )
    records = read(world.member(Listener()), 3)
    world.end()
    assert [(r.offset, r.value, r.headers, r.headers_unreadable) for r in records] == [
        (0, b"before", [("fine", b"v")], False),
        (1, b"marked", [], True),
        (2, b"after", [], False),
    ]
