"""Documents of the contracts as strategies."""

from __future__ import annotations

import base64

import hypothesis.strategies as st

texts = st.text(max_size=20)
names = st.text(min_size=1, max_size=8)
scores = st.floats(0, 1)
whole = {
    "schema": st.just(1),
    "id": st.text(max_size=512),
    "result_id": st.just("in-0-1@0123456789ab"),
    "source": st.fixed_dictionaries(
        {
            "topic": names,
            "partition": st.integers(0, 2**31 - 1),
            "offset": st.integers(0, 2**63 - 1),
            "timestamp": st.none() | st.integers(-1, 2**63 - 1),
        }
    ),
    "truncated": st.booleans(),
    "tokens": st.integers(1, 2**31 - 1),
    "model": st.fixed_dictionaries({"name": names, "digest": st.just("0123456789ab")}),
}
maybe = {"windows": st.integers(2, 9), "metadata": st.dictionaries(names, texts, min_size=1, max_size=3)}
of_labels = {
    "action": st.sampled_from(["accept", "review", "reject"]),
    "scores": st.dictionaries(texts, st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=4),
}
any_score = st.floats(allow_nan=False, allow_infinity=False)
label = st.fixed_dictionaries(
    {**whole, "label": names, "score": any_score},
    optional={**maybe, **of_labels, "layer": st.integers(1, 99)},
)
labelled = st.fixed_dictionaries({"label": names, "score": scores})
labels = st.fixed_dictionaries(
    {**whole, "label": names, "score": scores, "labels": st.lists(labelled, max_size=3)},
    optional=maybe | of_labels,
) | st.fixed_dictionaries(
    {**whole, "label": st.none(), "score": scores, "labels": st.just([])}, optional=maybe | of_labels
)
entity = st.fixed_dictionaries(
    {
        "entity_group": names,
        "score": scores,
        "word": texts,
        "start": st.integers(0, 2**31 - 1),
        "end": st.integers(0, 2**31 - 1),
    }
)
entities = st.fixed_dictionaries({**whole, "entities": st.lists(entity, max_size=3)}, optional=maybe)
results = label | labels | entities
"""Of every kind."""

encoded = st.none() | st.binary(max_size=30).map(lambda value: base64.b64encode(value).decode())
headers = st.dictionaries(st.text(max_size=9).filter(lambda name: "." not in name), st.none() | texts, max_size=4)
why = {"winnow.errors.reason": "tombstone"} | {
    f"kafka_dlt-{name}": value
    for name, value in {
        "original-topic": "in", "original-partition": "\0\0\0\3", "original-offset": "\0", "original-timestamp": "\0",
        "original-timestamp-type": "CreateTime", "original-consumer-group": "winnow", "exception-fqcn": "Fault",
        "exception-message": "What is wrong.",
    }.items()
}  # fmt: skip
letters = st.fixed_dictionaries({"key": encoded, "value": encoded, "headers": headers.map(lambda own: own | why)})

numbers = st.integers(-(2**63), 2**64 - 1)
requests = st.fixed_dictionaries(
    {"text": texts.map(lambda text: f"x{text}")}, optional={"id": st.none() | texts | numbers, "more": texts}
)
