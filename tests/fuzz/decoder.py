"""Coverage-guided fuzzing of what a message may hold: `./dev fuzz [RUNS]`, or with libFuzzer's options as arguments.

Whatever the bytes are, each decoder gives a request or an `InvalidMessage`, the same one again, and what becomes of it
can be written: a text can be tokenized, a refusal fits a dead letter.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports():
    import orjson

    from worker.errors import InvalidMessage
    from worker.opening import DEFAULT_BUNDLE
    from worker.pipeline.decode import document_decoder, event_decoder, json_decoder, text_decoder
    from worker.pipeline.encode import Encoder, ModelIdentity
    from worker.pipeline.enrich import enrichable, with_member
    from worker.pipeline.json_text import parse
    from worker.pipeline.messages import Classification, Record, Rejection, Request, Result
    from worker.pipeline.tokenization import TextTokenizer, tokenize_each

MAX_BYTES, MAX_CHARACTERS, MAX_WRITTEN = 4_096, 1_000, 4_096
DECODERS = (
    json_decoder("/text", "/id", MAX_BYTES, MAX_CHARACTERS),
    json_decoder("/a~1b/0/~0", None, MAX_BYTES, MAX_CHARACTERS),
    json_decoder("", "", MAX_BYTES, MAX_CHARACTERS),
    text_decoder(MAX_BYTES, MAX_CHARACTERS),
    lambda record: EVENTS(record._replace(headers=STRUCTURED)),
)
"""Of a field with an id, of a nested field, of a document that is nothing but the text, of plain text, of events."""
EVENTS = event_decoder("/text", MAX_BYTES, MAX_CHARACTERS, parse)
STRUCTURED = [("content-type", b"application/cloudevents+json")]
TO_ENRICH = document_decoder("/text", "/id", MAX_BYTES, MAX_CHARACTERS, enrichable("winnow"))
ENCODE = Encoder(ModelIdentity("fuzzed", "0123456789ab"), True, ["*"], MAX_WRITTEN)
TOKENIZE = TextTokenizer((DEFAULT_BUNDLE / "tokenizer.json").read_text("utf-8"), 64)
EVERY = 50
"""Of so many texts one is tokenized: that takes longer than all the rest."""


class Target:
    def __init__(self) -> None:
        self.requests = 0

    def __call__(self, value: bytes) -> None:
        record = Record("in", 0, 7, value[:3], value, [("header", value[-3:])], 1_700_000_000_000)
        for decode in DECODERS:
            found = outcome(decode, record)
            if found != outcome(decode, record):
                raise AssertionError("decoded differently the second time")
            if isinstance(found, Request):
                self.request(record, found)
            else:
                self.refusal(record, found)
        if isinstance(outcome(TO_ENRICH, record), Request):
            self.enriched(value)

    def enriched(self, value: bytes) -> None:
        found = with_member(value, "winnow", b"17")
        if orjson.loads(found) != orjson.loads(value) | {"winnow": 17} or not found.startswith(value.rstrip()[:-1]):
            raise AssertionError("a message that was changed more than by its result")

    def request(self, record: Record, request: Request) -> None:
        if len(request.text) > MAX_CHARACTERS or not request.text.strip():
            raise AssertionError("a text out of bounds")
        self.requests += 1
        if self.requests % EVERY == 0:
            tokenize_each(TOKENIZE, [request.text])
        written, _ = ENCODE(record, Result(request, Classification("ham", 0.5, {"ham": 0.5}), request.truncated, 3))
        if written is None or (written.headers == record.headers and orjson.loads(written.value or b"") is None):
            raise AssertionError("a result that cannot be read")

    def refusal(self, record: Record, error: InvalidMessage) -> None:
        rejection = Rejection("decode", error.reason, str(error), type(error).__name__)
        written, why = ENCODE(record, rejection)
        if written is None or why is not rejection:
            raise AssertionError("a refusal that left nothing")
        if len(written.value or b"") > MAX_WRITTEN:
            raise AssertionError("a dead letter out of bounds")


def outcome(decode, record: Record) -> Request | InvalidMessage:
    try:
        return decode(record)
    except InvalidMessage as error:
        return Same(error.reason, str(error))


class Same(InvalidMessage):
    """Equal to another with the same words."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and (self.reason, str(self)) == (other.reason, str(other))

    __hash__ = None  # type: ignore[assignment]


SEEDS = (
    b'{"id": "a-1", "text": "Win a prize now", "meta": {"n": 1.5e300, "ok": true}}',
    '{"id": 7, "text": "مرحبا \\ud83d\\ude00 \\u0000 \\u202e é"}'.encode(),
    b'{"a/b": [{"~": "nested text"}], "id": null}',
    b'"only a string"',
    b'{"specversion": "1.0", "id": "e", "source": "/s", "type": "t", "data": {"text": "of an event", "winnow": 1}}',
    b'{"specversion": "1.0", "id": "e", "source": "/s", "type": "t", "data_base64": "eyJ0ZXh0IjogIngifQ=="}',
    b'{"id": {}, "text": ["not", "a", "string"]}',
    b'{"id": 123456789012345678901234567890, "text": " \\t\\n "}',
    b"[" * 200 + b"]" * 200,
    b'{"text": "cut in the mid',
    "plain text, ünïcödé 漢字 \u200b".encode(),
    b"\xff\xfe{\x00}\x00",
)
WORDS = (
    '"id":',
    '"text":',
    '"winnow":',
    '"specversion":"1.0"',
    '"data":',
    '"data_base64":',
    '"a/b":[{"~":',
    "\\\\u0000",
    "\\\\ud800",
    "\\\\udfff",
    "null",
    "1e999",
    "-0",
    "{}",
    "[]",
    "\\xed\\xa0\\x80",
)


def main() -> None:
    """Start from the seeds, with the words of the dictionary."""
    with tempfile.TemporaryDirectory() as folder:
        corpus, words = Path(folder, "corpus"), Path(folder, "words")
        corpus.mkdir()
        for number, seed in enumerate(SEEDS):
            (corpus / str(number)).write_bytes(seed)
        words.write_text("".join('"' + word.replace('"', '\\"') + '"\n' for word in WORDS))
        options = [each for each in sys.argv[1:] if each.startswith("-")] or [
            f"-runs={(sys.argv[1:] or ['200000'])[0]}"
        ]
        atheris.Setup([sys.argv[0], f"-dict={words}", "-max_len=5000", *options, str(corpus)], Target())
        atheris.Fuzz()


if __name__ == "__main__":
    main()
