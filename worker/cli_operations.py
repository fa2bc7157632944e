"""The part of the command line for those who run workers: `winnow audit`, `bench`, `top` and `dlq`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.cli_training import AsJson, TextField  # noqa: TC001 - typer reads the annotations

ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", help="TOML file.", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="SECTION.NAME=VALUE", help="A setting; may be repeated.", show_default=False),
]
WHEN = "2026-11-21T13:00:00Z, or how long ago: 90s, 15m, 2h, 3d."
Since = Annotated[str | None, typer.Option(metavar="TIME", help=f"Written from then on: {WHEN}", show_default=False)]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Written before then.", show_default=False)]
Letters = Annotated[
    str | None,
    typer.Option("--topic", metavar="TOPIC", help="The dead-letter topic.", show_default="kafka.dead_letter_topic"),
]
Reasons = Annotated[
    list[str] | None,
    typer.Option("--reason", "-r", metavar="REASON", help="Only these reasons; may be repeated.", show_default=False),
]
OfPartition = Annotated[
    int | None,
    typer.Option("--partition", min=0, help="Only letters of this partition of the topic.", show_default=False),
]
Offsets = Annotated[
    list[str] | None,
    typer.Option("--offset", metavar="N|N-|N-M", help="Only these offsets; may be repeated.", show_default=False),
]
TOP_URL = "http://127.0.0.1:9464"
"""Where a worker of this machine serves, unless `serving.port` says otherwise."""

dlq_app = typer.Typer(help="Look at dead letters, and send them again.", no_args_is_help=True)


def audit(
    config: ConfigFile = None,
    assign: Set = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input", "-i", metavar="TOPIC", help="Input topic; may be repeated.", show_default="kafka.input_topics"
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="TOPIC", help="Topic of the results.", show_default="kafka.output_topic"
        ),
    ] = None,
    dead_letters: Annotated[
        str | None,
        typer.Option(metavar="TOPIC", help="Topic of the dead letters.", show_default="kafka.dead_letter_topic"),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(help="What it has not committed needs no answer yet.", show_default="kafka.group_id"),
    ] = None,
    no_group: Annotated[bool, typer.Option("--no-group", help="Every message needs an answer.")] = False,
    scores: Annotated[bool, typer.Option("--scores/--no-scores", help="Classify again and compare bit by bit.")] = True,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help=f"Audit messages from then on: {WHEN}", show_default=False),
    ] = None,
    last: Annotated[
        int | None,
        typer.Option(min=1, help="Audit so many of the newest offsets of each input partition.", show_default=False),
    ] = None,
    doubles: Annotated[
        bool | None,
        typer.Option(
            "--doubles/--no-doubles",
            help="Whether a message may have several equal answers.",
            show_default="as kafka.delivery promises",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Has every message been answered, once, in order, and as it would be answered today?

    Reads input, output and dead letters up to where they reach now; a worker may go on meanwhile. Exit code 8: no.

    Example: `winnow audit --config winnow.toml --last 10000`
    """
    from worker.commands import audit as command

    command.audit(
        command.Asked(
            config, assign or [], inputs or [], output, dead_letters, group, no_group, scores, since, last, doubles,
            as_json,
        )
    )  # fmt: skip


def bench(
    bundle: Annotated[
        str | None,
        typer.Option(
            "--bundle", "-b", help="Folder of the bundle; `default` comes with Winnow.", show_default="model.bundle"
        ),
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option(
            "--texts", "-t", help="Texts like yours: JSONL, CSV or plain lines.", show_default="the demo's messages"
        ),
    ] = None,
    text_field: TextField = "text",
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="About how long to measure.")] = 45.0,
    latency_target: Annotated[
        float, typer.Option(min=0.01, help="Seconds in which one replica is to work off the lag it is given.")
    ] = 10.0,
    headroom: Annotated[
        float, typer.Option(min=0, max=0.95, help="Share of the rate kept for new messages and for Kafka's client.")
    ] = 0.3,
    write: Annotated[
        Path | None, typer.Option(help="Put the settings into this TOML file; all else in it stays.")
    ] = None,
    write_keda: Annotated[
        Path | None, typer.Option(help="Put KEDA's lag threshold into this file of Helm values.")
    ] = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    assign: Set = None,
) -> None:
    """Measure what this machine does with a bundle: messages a second by length, and the best settings. No Kafka.

    Best on a machine that does nothing else, with the CPUs that a worker will have.

    Example: `winnow bench --texts my-texts.jsonl --write winnow.toml`
    """
    from worker.commands import bench as command

    command.bench(
        command.Options(
            bundle, config, assign or [], texts, text_field, seconds, latency_target, headroom, as_json, write,
            write_keda,
        )
    )  # fmt: skip


def top(
    urls: Annotated[
        list[str] | None,
        typer.Argument(metavar="[URL]...", help="Where workers serve.", show_default=TOP_URL),
    ] = None,
    interval: Annotated[float, typer.Option(min=1, max=60, help="Seconds between two looks.")] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="Look twice, show it, and end; as where no terminal is.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Watch running workers by their /metrics: whether all is well, rate, labels, latency, lag, dead letters.

    One worker is shown in full, several in a line each. Reads only. Ctrl-C ends it.

    Example: `winnow top` or `winnow top --once http://10.0.0.7:9464`
    """
    from worker.commands import top as command

    command.top(command.Options(urls or [TOP_URL], interval, once, as_json))


@dlq_app.command("peek")
def dlq_peek(
    config: ConfigFile = None,
    assign: Set = None,
    topic: Letters = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="List so many, the newest; all count.")] = 20,
    reasons: Reasons = None,
    since: Since = None,
    until: Until = None,
    partition: OfPartition = None,
    offsets: Offsets = None,
    values: Annotated[bool, typer.Option("--values", help="Show keys, values and headers, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List dead letters, and how many there are of each reason. Reads only; no group, no commits.

    Example: `winnow dlq peek --reason invalid-json --since 2h --values`
    """
    from worker.commands import dlq

    chosen = dlq.Chosen(config, assign or [], topic, reasons or [], since, until, partition, offsets or [])
    dlq.peek(chosen, limit, values, as_json)


@dlq_app.command("replay")
def dlq_replay(
    config: ConfigFile = None,
    assign: Set = None,
    topic: Letters = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="TOPIC", help="Topic to send them to.", show_default="the topic each came from"),
    ] = None,
    reasons: Reasons = None,
    since: Since = None,
    until: Until = None,
    partition: OfPartition = None,
    offsets: Offsets = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Messages a second at most.", show_default=False)
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="Send so many at most.", show_default=False)
    ] = None,
    max_replays: Annotated[int, typer.Option(min=1, help="Refuse what was sent again so often.")] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send dead letters again as the messages they were: key, value and headers, without what says why they failed.

    The letters stay where they are: a second replay sends them again, unless it says --since. Header `winnow.replays`
    counts how often.

    Example: `winnow dlq replay --reason model-error --since 2h --dry-run`
    """
    from worker.commands import dlq

    chosen = dlq.Chosen(config, assign or [], topic, reasons or [], since, until, partition, offsets or [])
    dlq.replay(chosen, dlq.How(to, rate, limit, max_replays, dry_run), as_json)
