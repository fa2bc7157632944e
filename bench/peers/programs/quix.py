"""`quix.py BOOTSTRAP GROUP INPUT OUTPUT BUNDLE`: a function of one message in a quix-streams application."""

from __future__ import annotations

import sys
from typing import Any

from quixstreams import Application  # type: ignore[import-not-found]

from bench.peers.programs.classifier import open_classifier


def main(bootstrap: str, group: str, source: str, output: str, bundle: str) -> None:
    classify = open_classifier(bundle)

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        return {"id": request["id"], **classify([request["text"]])[0]}

    application = Application(
        broker_address=bootstrap,
        consumer_group=group,
        auto_offset_reset="earliest",
        processing_guarantee="at-least-once",
        auto_create_topics=False,
        loglevel="WARNING",
    )
    requests = application.topic(source, value_deserializer="json")
    answers = application.topic(output, value_serializer="json")
    application.dataframe(requests).apply(answer).to_topic(answers)
    application.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
