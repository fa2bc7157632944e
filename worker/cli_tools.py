"""The part of the command line for looking before running: `winnow doctor`, `winnow dry-run` and `winnow explain`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from worker.cli_operations import ConfigFile, Set  # noqa: TC001 - typer reads the annotations
from worker.cli_training import AsJson  # noqa: TC001

Bundle = Annotated[
    str | None,
    typer.Option(
        "--bundle", "-b", help="Folder of the bundle; `default` comes with Winnow.", show_default="model.bundle"
    ),
]


def doctor(
    config: ConfigFile = None,
    assign: Set = None,
    replicas: Annotated[int, typer.Option("--replicas", "-r", min=1, help="Workers that are meant to run.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Can a worker run here, with these settings, on that Kafka? Each line says what was found, and its mend.

    Looks at the CPU, the bundle, the brokers, topics, rights, size limits, the group and its lag. Changes nothing:
    joins no group, writes and commits nothing. Exit code 9: there is a problem.

    Example: `winnow doctor --config winnow.toml --replicas 3`
    """
    from worker.commands import doctor as command

    command.doctor(config, assign or [], replicas, as_json)


def dry_run(
    config: ConfigFile = None,
    assign: Set = None,
    messages: Annotated[int, typer.Option("--messages", "-n", min=1, max=1_000, help="Read so many at most.")] = 20,
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="committed|beginning|end|OFFSET|TIME",
            help="Where to begin: where the group would go on, at the first messages, with the newest, at an offset of "
            "each partition, or at a time (2026-11-21T13:00:00Z, or 15m, 2h, 3d ago).",
        ),
    ] = "committed",
    values: Annotated[bool, typer.Option("--values", help="Show keys, values and headers, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read some real messages and show what a worker would write of them: results, dead letters, and where to.

    Joins no group, commits nothing, writes nothing. `--json` gives a JSON document a line, message text included.

    Example: `winnow dry-run --config winnow.toml -n 50 --from 2h`
    """
    from worker.commands import dry_run as command

    command.dry_run(command.Asked(config, assign or [], messages, start, values, as_json))


def explain(
    text: Annotated[
        str | None, typer.Argument(help="The text; `-` or none reads it from stdin.", show_default=False)
    ] = None,
    bundle: Bundle = None,
    label: Annotated[
        str | None, typer.Option("--label", "-l", help="Explain this label's score.", show_default="the best one")
    ] = None,
    method: Annotated[
        Literal["auto", "mask", "leave-out"],
        typer.Option(
            help="A word becomes the tokenizer's mask token, or is left out; `auto`: the mask if there is one."
        ),
    ] = "auto",
    most: Annotated[
        int, typer.Option(min=2, max=4_096, help="Runs of the model at most; beyond it neighbours count as one word.")
    ] = 256,
    as_json: AsJson = False,
    config: ConfigFile = None,
    assign: Set = None,
) -> None:
    """Why does a text get its label? Tokens, truncation, scores, thresholds, and which words carry the score.

    Each word in turn is hidden from the model, and what the score loses without it is what the word carries. Settings
    are the defaults, whatever the environment says, unless `--config` or `--set` is given.

    Example: `winnow explain "WINNER! Claim your prize now"` or `winnow explain --json - < mail.txt`
    """
    from worker.commands import explain as command

    command.explain(command.Asked(text, bundle, label, method, most, as_json, config, assign or []))
