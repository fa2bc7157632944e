"""Fine-tuning learns, and its tensors make a graph; runs where the extra `train` is installed."""

import pytest

from tests.unit.model import networks
from worker.model.graph.builder import build
from worker.model.graph.network import from_checkpoint
from worker.model.random_bundle import random_checkpoint
from worker.model.session import open_session, run

pytest.importorskip("torch", reason="needs the extra [train]")
pytest.importorskip("transformers", reason="needs the extra [train]")

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from worker.model.training import early_exit
from worker.model.training import fine_tuning as train
from worker.model.training.objectives import Softmax

pytestmark = pytest.mark.torch


def test_training_learns_and_returns_named_tensors():
    """A word that decides the label is learnt from scratch by both heads; the result builds a graph that knows it."""

    words = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "good", "bad", *"abcdefgh"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    config = networks.CONFIG | {"id2label": {"0": "a", "1": "b"}, "n_layers": 2, "attention_dropout": 0.0}
    pairs = [
        (f"{fill} {word} {fill}", (1.0 - y, float(y))) for fill in "abcdefgh" for word, y in (("bad", 0), ("good", 1))
    ]
    seen = []
    torch.manual_seed(0)
    model = DistilBertForSequenceClassification(DistilBertConfig(**config))
    early_exit.add(model, layer=1)
    train.load_tensors(model, random_checkpoint(config))
    with early_exit.answering(model):
        weights = train.fine_tune(
            model,
            tokenizer,
            lambda epoch, rng: list(pairs),
            early_exit.BothHeads(Softmax(0.0), 0.3),
            train.Settings(epochs=15, batch=8, rate=3e-3, ema=0.9, freeze_embeddings=False),
            lambda step, steps, loss: seen.append((step, steps, loss)),
        )
        said = train.outputs(model, train.encode(tokenizer, [text for text, _ in pairs], 16), train.padded)
    assert seen[-1][:2] == (30, 30)
    assert seen[-1][2] < 0.2
    session = open_session(build(from_checkpoint(config, weights)).SerializeToString())
    logits = run(session, [tokenizer.encode(text).ids for text, _ in pairs])
    truth = [int(target[1]) for _, target in pairs]
    assert logits.argmax(axis=1).tolist() == truth
    assert [int(each[2:].argmax()) for each in said] == truth
    assert {name for name in weights if name.startswith("early_exit.")} == {
        "early_exit.queries.weight",
        *(f"early_exit.{part}.{kind}" for part in ("pre_classifier", "classifier") for kind in ("weight", "bias")),
    }
