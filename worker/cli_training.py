"""The part of the command line that trains and measures: `winnow train`, `evaluate` and `threshold`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

BundleToMeasure = Annotated[
    str, typer.Argument(metavar="BUNDLE", help="Folder of the bundle; `default` is the one that comes with Winnow.")
]
DATA = "Labelled texts: JSON lines with text and label, labels, or tokens and tags; CSV with a header."
TextField = Annotated[str, typer.Option(help="What the text is called in JSON, or its column.")]
LabelField = Annotated[
    str,
    typer.Option(help="What the label is called in JSON, or its column; several are a list, or words parted by `|`."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON for programs.")]
Base = Annotated[
    str,
    typer.Option(
        help="Encoder: `minilm`, which comes with the extra [train]; a Hugging Face folder; a name on the hub."
    ),
]
Data = Annotated[Path, typer.Option("--data", "-d", help=DATA)]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the model, the bundle and the report.")]
Validation = Annotated[
    Path | None,
    typer.Option(help="Texts that choose the best epoch; a tenth of the data without it.", show_default=False),
]
Test = Annotated[
    Path | None,
    typer.Option(help="Texts to measure with at the end; those of validation without it.", show_default=False),
]
Task = Annotated[
    Literal["auto", "single-label", "multi-label", "regression", "token"],
    typer.Option(help="`auto`: as the data says; numbers are labels unless it is `regression`."),
]
FreezeEncoder = Annotated[
    bool, typer.Option("--freeze-encoder", help="Train the head alone: seconds instead of minutes.")
]
EarlyExit = Annotated[
    bool,
    typer.Option(
        "--early-exit", help="Train a second head on an early layer, too: texts that it is sure of need no more layers."
    ),
]
ExitLayer = Annotated[
    int | None, typer.Option(min=1, help="The layer of --early-exit.", show_default="a third of the layers")
]
ExitAgreement = Annotated[
    float,
    typer.Option(
        min=0.5,
        max=1,
        help="How many of the validation texts are to get the same label with --early-exit as from all layers.",
    ),
]
FreezeModel = Annotated[
    bool,
    typer.Option(
        "--freeze-model", help="Leave a fine-tuned --base as it is, and train the head of --early-exit alone."
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where a training into --out stopped.")]
ValidationShare = Annotated[
    float, typer.Option(min=0.01, max=0.5, help="How much of the data is set aside without --validation.")
]
MaxLength = Annotated[
    int | None,
    typer.Option(min=4, help="Tokens of a text that are read.", show_default="what 98 of 100 texts need, at most 256"),
]
Epochs = Annotated[
    int | None, typer.Option(min=1, help="Most passes over the data.", show_default="4; 60 for a head alone")
]
Patience = Annotated[int, typer.Option(min=1, help="Stop after so many epochs without a better figure on validation.")]
Batch = Annotated[int | None, typer.Option(min=1, help="Texts in a step.", show_default="32; 64 for a head alone")]
Rate = Annotated[
    float | None,
    typer.Option(min=1e-9, help="Learning rate.", show_default="2e-4, less for wide encoders; 2e-3 for a head alone"),
]
LabelWeights = Annotated[
    Literal["none", "root", "balanced"],
    typer.Option(help="Rare labels count more: `balanced` as much as common ones, `root` half-way."),
]
Smoothing = Annotated[float, typer.Option(min=0, max=0.5, help="Label smoothing.")]
TrainEmbeddings = Annotated[
    bool, typer.Option("--train-embeddings", help="Train the tables of words and positions, too.")
]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16"], typer.Option(help="`auto`: bfloat16 where it works and is faster.")
]
Seed = Annotated[int, typer.Option(help="The same seed on the same machine trains the same weights.")]
BundleName = Annotated[str | None, typer.Option(help="Name of the bundle.", show_default="the name of --out")]
Licence = Annotated[str | None, typer.Option(help="Licence of the bundle.", show_default=False)]
MinAgreement = Annotated[
    float, typer.Option(min=0, max=1, help="Least share of decisions that INT8 and FP32 have in common.")
]
MaxMetricDrop = Annotated[float, typer.Option(min=0, max=1, help="By how much accuracy or F1 may be worse in INT8.")]
DataArgument = Annotated[Path, typer.Argument(help=DATA)]
Compare = Annotated[
    str | None,
    typer.Option(metavar="BUNDLE", help="Another bundle on the same texts, side by side.", show_default=False),
]
Report = Annotated[Path | None, typer.Option(metavar="FILE", help="Write an HTML report, too.", show_default=False)]
Aggregation = Annotated[
    Literal["simple", "first", "average", "max"] | None,
    typer.Option(help="How tokens become entities; short for `--set entities.aggregation=…`.", show_default=False),
]
ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", help="TOML file.", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="SECTION.NAME=VALUE", help="A setting; may be repeated.", show_default=False),
]
LeastPrecision = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Least precision; recall is as high as that allows.", show_default=False),
]
LeastRecall = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Least recall; precision is as high as that allows.", show_default=False),
]
Cost = Annotated[
    str | None,
    typer.Option(
        metavar="fp=5,fn=1",
        help="What a label given wrongly and one missed cost; the least sum is chosen.",
        show_default=False,
    ),
]
Label = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        "-l",
        metavar="LABEL",
        show_default=False,
        help="Whose threshold; may be repeated. All of a multi-label bundle without it, and of two labels the "
        "one that has a threshold, or the second.",
    ),
]
Write = Annotated[bool, typer.Option("--write", help="Store the thresholds in the bundle.")]


def train(
    base: Base,
    data: Data,
    out: Out,
    validation: Validation = None,
    test: Test = None,
    task: Task = "auto",
    freeze_encoder: FreezeEncoder = False,
    early_exit: EarlyExit = False,
    exit_layer: ExitLayer = None,
    exit_agreement: ExitAgreement = 0.999,
    freeze_model: FreezeModel = False,
    resume: Resume = False,
    text_field: TextField = "text",
    label_field: LabelField = "label",
    validation_share: ValidationShare = 0.1,
    max_length: MaxLength = None,
    epochs: Epochs = None,
    patience: Patience = 3,
    batch: Batch = None,
    rate: Rate = None,
    label_weights: LabelWeights = "none",
    smoothing: Smoothing = 0.05,
    train_embeddings: TrainEmbeddings = False,
    precision: Precision = "auto",
    seed: Seed = 1,
    name: BundleName = None,
    licence: Licence = None,
    min_agreement: MinAgreement = 0.985,
    max_metric_drop: MaxMetricDrop = 0.01,
) -> None:
    """Train a classifier or a tagger, and make a Hugging Face folder, a bundle and a report of it.

    Ctrl-C stops after the step at hand; the same command with `--resume` goes on. Needs the extra [train].

    Example: `winnow train --base minilm --data train.jsonl --test test.jsonl --out intents`

    Head alone: `winnow train --base minilm --data train.csv --freeze-encoder --out quick`

    Two stages of a model that is there: `winnow train --base intents/hf --early-exit --freeze-model --data train.jsonl
    --out faster`
    """
    wanted = {key: value for key, value in locals().items() if key not in ("text_field", "label_field")}
    wanted["share"] = wanted.pop("validation_share")

    from worker.commands import train as command
    from worker.model.data import Fields

    command.train(wanted, Fields(text_field, label_field))


def evaluate(
    bundle: BundleToMeasure,
    data: DataArgument,
    compare: Compare = None,
    report: Report = None,
    aggregation: Aggregation = None,
    config: ConfigFile = None,
    assign: Set = None,
    as_json: AsJson = False,
    text_field: TextField = "text",
    label_field: LabelField = "label",
) -> None:
    """Measure a bundle on labelled texts: accuracy, precision, recall, F1, areas, calibration, entities.

    Texts are cut, read in windows and decided on as the worker does with the settings of `--config` and `--set`. They
    are the defaults, whatever the environment says, unless one of the two is given. Needs the extra [evaluate]; no
    torch.

    Example: `winnow evaluate intents/bundle test.jsonl --report report.html`

    As deployed: `winnow evaluate intents/bundle test.jsonl --config winnow.toml`

    Two bundles: `winnow evaluate intents/bundle test.jsonl --compare quick/bundle`
    """
    from worker.commands import evaluate as command
    from worker.model.data import Fields

    fields = Fields(text_field, label_field)
    command.evaluate(command.Options(bundle, data, compare, report, aggregation, as_json, fields, config, assign or []))


def threshold(
    bundle: BundleToMeasure,
    data: DataArgument,
    precision: LeastPrecision = None,
    recall: LeastRecall = None,
    cost: Cost = None,
    label: Label = None,
    write: Write = False,
    config: ConfigFile = None,
    assign: Set = None,
    as_json: AsJson = False,
    text_field: TextField = "text",
    label_field: LabelField = "label",
) -> None:
    """Choose from what score on a label is given, by labelled texts that the bundle was not trained on.

    One goal is needed: `--precision`, `--recall` or `--cost`. Of the settings of `--config` and `--set` those count
    that say how much of a text is read. Needs the extra [evaluate]; no torch.

    Example: `winnow threshold spam/bundle validation.jsonl --precision 0.99`, then the same with `--write`

    By cost: `winnow threshold spam/bundle validation.jsonl --label spam --cost fp=5,fn=1`
    """
    from worker.commands import threshold as command
    from worker.model.data import Fields

    goal, fields = command.Goal(precision, recall, cost), Fields(text_field, label_field)
    command.threshold(command.Options(bundle, data, goal, label or [], write, as_json, fields, config, assign or []))
