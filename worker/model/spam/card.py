"""The words that go with the default bundle: model card, notice, sources, probe texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.model.manifest import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.model.bundle import Bundle
    from worker.model.manifest import EarlyExit, Evaluation, Figures

DATA = (
    Source(name="SMS Spam Collection (UCI)", licence="CC-BY-4.0", credit="T. A. Almeida and J. M. Gómez Hidalgo, 2011"),
    Source(
        name="YouTube Spam Collection (UCI)",
        licence="CC-BY-4.0",
        credit="T. C. Alberto, J. V. Lochter and T. A. Almeida, 2015",
    ),
    Source(
        name="Enron-Spam, enron1 to enron4",
        licence="none stated; used for training and measuring only, not redistributed",
        credit="V. Metsis, I. Androutsopoulos and G. Paliouras, 2006",
    ),
    Source(name="Winnow's own texts, worker/model/spam/extra.jsonl", licence="Apache-2.0", credit="Winnow"),
)
CHANNELS = ("sms", "comments", "mails", "modern")
PROBES = (
    "Are we still on for lunch at noon? I can book the table by the window.",
    "WINNER! Your number was drawn for a 900 pound prize. Call 09061 555 000 now to claim, 150p/min.",
    "ok, see you there :)",
    "Subscribe to my channel for free gift cards, link in my profile, first 100 only!!!",
    "this song still gives me goosebumps after all these years",
    "Subject: meeting notes\nHi Anna,\nattached are the notes from Tuesday. Could you check the figures in section 2?\n"
    "Thanks, Peter",
    "Subject: cheap meds online\nsave up to 80 % on all tablets , no prescription needed , order today and get free "
    "shipping",
    "Your verification code is 482 913. It expires in ten minutes. Do not share it with anyone.",
    "Ваша посылка ждёт: оплатите сбор по ссылке",
    "👍",
)

NOTICE = """\
Winnow default bundle: spam filter for short messages, comments and mails

The weights are derived from all-MiniLM-L6-v2 by the sentence-transformers project, itself derived from
MiniLM-L6-H384-uncased (Microsoft's MiniLM, reduced by Nils Reimers). Licensed under the Apache License,
Version 2.0, https://www.apache.org/licenses/LICENSE-2.0. Changed: converted to a DistilBERT (token-type row 0
added to the position table, pooler dropped), fine-tuned as a classifier, quantized to INT8.
tokenizer.json comes from the same project under the same licence, without its padding and truncation settings.

Fine-tuned on:
- SMS Spam Collection, T. A. Almeida and J. M. Gómez Hidalgo, 2011, UCI Machine Learning Repository,
  https://doi.org/10.24432/C5CC84, Creative Commons Attribution 4.0 International
  (https://creativecommons.org/licenses/by/4.0/).
- YouTube Spam Collection, T. C. Alberto, J. V. Lochter and T. A. Almeida, 2015, UCI Machine Learning Repository,
  https://doi.org/10.24432/C58885, Creative Commons Attribution 4.0 International.
- Enron-Spam (enron1 to enron4), V. Metsis, I. Androutsopoulos and G. Paliouras, 2006, no formal licence.
- Winnow's own texts, Apache-2.0.
None of the collections' texts is part of this bundle.
"""

AGREEMENT = 0.9995
"""The share of the validation texts and their variants that are to keep each label with exits, in every channel.

Even if all layers said a logit more or less, as `making` has it.
"""
_CARD = """\
# {name}: spam or not, in short messages, comments and mails

The classifier that Winnow serves when it is told no other: a DistilBERT of 6 layers × 384 (22.7 M parameters), static
INT8, labels `ham` and `spam`, English. Made by `python -m worker.model.spam.__main__ --data DIR`; see `docs/models.md`.

## Use

`spam` is decided where its score is at least {threshold:g}; scores are softmax over logits divided by the temperature
{temperature:g}. Texts are cut at {max_length} tokens. A message's score does not depend on what it is batched with.

{leaving}## Figures on texts that training never saw

{table}

ECE: expected calibration error of the spam score, ten equal bins. Agreement: same label from INT8 and FP32.{exits}
{notes}

## Data

{data}

The SMS collection has a test file of its own. From each other source whole groups of near-duplicates (Jaccard of word
triples at least 0.6) were held out, so no test text has a near-duplicate in training; campaigns of more than three
variants stayed in training. Temperature and threshold were fitted on validation texts; how the weights were chosen, and
what to expect of fresh messages, is in `docs/models.md`.

## Limits

- The collections are old (2003 to 2015): prices in pence, ringtones, energy traders' mails. The project's own modern
  texts help with one-time codes, parcel and bank phishing, job and coin scams, but cannot cover what is sent today.
- English only. Other languages get a score, but nothing was measured.
- Some labels of the SMS collection are wrong (jokes marked as spam), which bounds what can be reached there.
- Only the first {max_length} tokens are read, and never a sender, a header or where a link leads.
- A filter that decides over people's messages needs a way to appeal: review what it rejects.

## Licence

Apache-2.0; sources and attributions are in `NOTICE`.
"""


_LEAVING = """\
A message leaves after layer {early_exit.layer} of {early_exit.layers} where a second head there is sure: the likelier
of its labels has a probability of at least {early_exit.threshold:.4f}{of_labels} at the temperature
{early_exit.temperature:g}. Its scores are those of that head. The threshold of a label is the smallest with which in
every channel {agreement:.2%} of the validation texts that this head gives it, and of variants of them as training makes
them, get it from all layers, too, even if these said a logit more or less. As they are, {early_exit.agreement:.2%} of
{early_exit.texts} keep their label, and {early_exit.left:.1%} leave. `model.early_exit = "off"` in the settings
computes all layers for every message.

"""
_EXITS = """ INT8 and FP32
compute all layers; INT8, exits is what is served by default, and its agreement is with INT8 without them. Left: how
many messages needed no more than {early_exit.layer} layers."""


def _of_labels(early: EarlyExit) -> str:
    return "".join(f" ({least:.4f} where it is {label})" for label, least in early.thresholds.items())


def card(bundle: Bundle) -> str:
    """The model card of a bundle, README.md."""
    manifest, early = bundle.manifest, bundle.manifest.early_exit
    leaving, exits = (
        "" if early is None else text.format(early_exit=early, agreement=AGREEMENT, of_labels=_of_labels(early))
        for text in (_LEAVING, _EXITS)
    )
    return _CARD.format(
        name=manifest.name,
        threshold=manifest.thresholds["spam"],
        temperature=manifest.temperature,
        max_length=manifest.max_length,
        leaving=leaving,
        exits=exits,
        table=figures_table(manifest.evaluation),
        notes="\n".join(f"{e.channel}: {e.note}." for e in manifest.evaluation if e.note),
        data="\n".join(f"- {s.name}; {s.credit}; licence: {s.licence}" for s in manifest.data),
    )


def figures_table(evaluations: tuple[Evaluation, ...]) -> str:
    """A Markdown table, one row per channel and graph."""
    head = "| channel | texts (spam) | graph | accuracy | precision | recall | F1 (spam) | ECE | agreement | left |"
    rows = [row for each in evaluations for row in _rows(each)]
    return "\n".join([head, "|---|---|---|---|---|---|---|---|---|---|", *rows])


def _rows(e: Evaluation) -> Iterator[str]:
    yield _row(e, "INT8", e.quantized, e.same_label)
    if e.early_exit is not None:
        yield _row(e, "INT8, exits", e.early_exit.figures, e.early_exit.same_label, f"{e.early_exit.left:.1%}")
    if e.fp32 is not None:
        yield _row(e, "FP32", e.fp32, e.same_label)


def _row(e: Evaluation, graph: str, found: Figures, agreement: float | None, left: str = "") -> str:
    cells = [
        e.channel,
        f"{e.texts} ({e.per_label['spam']})",
        graph,
        *(f"{x:.4f}" for x in (found.accuracy, found.precision["spam"], found.recall["spam"], found.f1["spam"])),
        f"{found.calibration_error:.4f}",
        f"{agreement:.4f}",
        left,
    ]
    return f"| {' | '.join(cells)} |"
