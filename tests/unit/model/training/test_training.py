"""`winnow train` with a tiny random encoder: tasks, freezing, early stopping, resuming; needs the extra `train`."""

import random

import numpy as np
import orjson
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [train]")
transformers = pytest.importorskip("transformers", reason="needs the extra [train]")

from tokenizers import Tokenizer, models, pre_tokenizers, processors  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from worker.cli import app  # noqa: E402
from worker.errors import ConfigError  # noqa: E402
from worker.model.data import tokens_example  # noqa: E402
from worker.model.training import bases, frozen  # noqa: E402
from worker.model.training import fine_tuning as train  # noqa: E402
from worker.model.training import run as training  # noqa: E402
from worker.model.training.corpus import IGNORED, label_weights, load, targets  # noqa: E402
from worker.model.training.fitting import Stopped  # noqa: E402
from worker.model.training.objectives import Sigmoid, Softmax, Tags  # noqa: E402
from worker.model.training.run import Options  # noqa: E402
from worker.model.training.run import train as train_all  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Networks as small as these take longer on several cores."""
    monkeypatch.setattr(training, "usable_cores", lambda: 1)
    torch.set_num_threads(1)


FILL = [*"abcdefghijklmnop"]
WORDS = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "great", "ulm", *FILL])}
SMALL = {"vocab_size": len(WORDS), "pad_token_id": 0, "max_position_embeddings": 64}
FAMILIES = {
    "distilbert": transformers.DistilBertConfig(**SMALL, dim=32, hidden_dim=64, n_layers=2, n_heads=2),
    "bert": transformers.BertConfig(
        **SMALL, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2
    ),
    "roberta": transformers.RobertaConfig(
        **SMALL, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2
    ),
}


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Folders of tiny encoders by family, as transformers writes them."""
    out = {}
    for family, config in FAMILIES.items():
        folder = tmp_path_factory.mktemp(family)
        torch.manual_seed(0)
        transformers.AutoModel.from_config(config).save_pretrained(folder)
        tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
        ).save_pretrained(folder)
        out[family] = str(folder)
    return out


def lines(task, count, seed=0):
    """Texts in which single words decide."""
    rng = random.Random(seed)
    for i in range(count):
        words = rng.choices(FILL, k=rng.randrange(3, 12))
        said = [word for word in ("good", "bad", "great") if rng.random() < 0.5]
        if task == "single-label":
            said = [rng.choice(["good", "bad", "great"])]
        if task == "token":
            words.insert(rng.randrange(len(words)), "ulm")
            yield {"tokens": words, "tags": ["B-place" if word == "ulm" else "O" for word in words]}
            continue
        rng.shuffle(words := words + said)
        label = {"label": said[0]} if task == "single-label" else {"labels": said}
        yield {"id": f"m{i}", "text": " ".join(words), **label}


def written(path, rows):
    path.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    return path


class Watch:
    """Keeps what it is told, and stops after `steps` steps."""

    def __init__(self, steps=None):
        self.steps, self.entries, self.phases = steps, [], []

    def phase(self, name, total):
        self.phases.append(name)

    def step(self, done, text=""):
        if self.steps is not None and text:
            self.steps -= done

    def epoch(self, entry):
        self.entries.append(entry)

    def stopping(self):
        return self.steps is not None and self.steps <= 0


def options(tmp_path, encoders, task, **more):
    base = more.pop("base", "distilbert")
    settings = {"epochs": 12, "batch": 16, "rate": 5e-3, "precision": "float32", "train_embeddings": True}
    settings |= {"min_agreement": 0.5, "max_metric_drop": 0.5, "out": tmp_path / "out", "seed": 3, "patience": 5}
    return Options(base=encoders[base], data=written(tmp_path / "train.jsonl", lines(task, 240)), **settings | more)


@pytest.mark.parametrize("task", ["single-label", "multi-label", "token"])
def test_each_task_is_learnt_and_loads_in_transformers(tmp_path, encoders, task):
    """The Hugging Face folder gives the same logits as what was trained, and the bundle's figures are those of FP32."""
    test = written(tmp_path / "test.jsonl", lines(task, 40, seed=1))
    trained = train_all(options(tmp_path, encoders, task, test=test), Watch())
    assert trained.bundle.manifest.task == task
    assert (trained.answers.decided == trained.answers.truth).mean() > (0.8 if task == "multi-label" else 0.95)
    assert trained.bundle.manifest.evaluation[-1].channel == "test"
    kind = "TokenClassification" if task == "token" else "SequenceClassification"
    folder = tmp_path / "out/hf"
    model = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tuple(model.config.id2label.values()) == trained.bundle.labels
    with torch.inference_mode():
        found = model(**tokenizer("a b great ulm c", return_tensors="pt")).logits[0].softmax(-1)
    if task == "single-label":
        assert model.config.id2label[int(found.argmax())] == "great"
    summary = orjson.loads((tmp_path / "out/training.json").read_bytes())
    assert summary["measured_on"] == "test"
    assert len(summary["history"]) == len(trained.history)


def test_a_training_goes_on_where_it_stopped(tmp_path, encoders):
    """Stopped within two epochs and resumed: bit for bit the weights of a training that was never stopped."""
    (tmp_path / "whole").mkdir()
    whole, parts = tmp_path / "whole/out", tmp_path / "out"
    train_all(options(tmp_path, encoders, "single-label", out=whole, epochs=3), Watch())
    for steps in (20, 10):
        with pytest.raises(Stopped):
            train_all(options(tmp_path, encoders, "single-label", epochs=3, resume=steps == 10), Watch(steps))
    train_all(options(tmp_path, encoders, "single-label", epochs=3, resume=True), Watch())
    assert (parts / "hf/model.safetensors").read_bytes() == (whole / "hf/model.safetensors").read_bytes()


def test_only_the_same_training_goes_on(tmp_path, encoders):
    with pytest.raises(ConfigError, match="so there is nothing to go on from"):
        train_all(options(tmp_path, encoders, "single-label", resume=True), Watch())
    with pytest.raises(Stopped):
        train_all(options(tmp_path, encoders, "single-label"), Watch(2))
    with pytest.raises(ConfigError, match="is of a training with other texts or settings"):
        train_all(options(tmp_path, encoders, "single-label", resume=True, rate=1e-3), Watch())
    with pytest.raises(ConfigError, match="holds a training already: go on with --resume"):
        train_all(options(tmp_path, encoders, "single-label"), Watch())


def test_training_ends_when_validation_stops_rising(tmp_path, encoders):
    """Labels by chance: nothing to learn, so it ends after the patience; the best epoch's weights stay."""
    rng = random.Random(0)
    rows = [{**row, "label": rng.choice("ab")} for row in lines("single-label", 240)]
    given = options(tmp_path, encoders, "single-label", epochs=40, patience=2)
    written(given.data, rows)
    watch = Watch()
    train_all(given, watch)
    values = [entry["macro F1"] for entry in watch.entries]
    assert len(values) < 40
    assert values.index(max(values)) == len(values) - 3


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("task", ["single-label", "token"])
def test_a_frozen_encoder_says_what_the_whole_forward_says(encoders, family, task):
    """The head on what was kept gives the logits of the whole model."""
    if family == "roberta" and task == "token":
        pytest.skip("cannot be served")
    base = bases.load(encoders[family], task, ("O", "b", "c"), seed=1)
    rng = np.random.default_rng(0)
    rows = [[2, *rng.integers(4, len(WORDS), n).tolist(), 3] for n in (3, 9, 1, 14)]
    expected = train.outputs(base.model, rows, train._padded)
    kept = frozen.encoded(base.model, rows, train._padded, "float32", task == "token")
    with frozen.replaced(base.model):
        found = train.outputs(base.model, kept, frozen.collate)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other[: len(one)], abs=1e-5)
    again = train.outputs(base.model, rows, train._padded)
    assert all((one == other).all() for one, other in zip(again, expected, strict=True))


def test_a_head_alone_leaves_the_encoder_as_it_was(tmp_path, encoders):
    trained = train_all(options(tmp_path, encoders, "single-label", freeze_encoder=True, epochs=30, rate=1e-2), Watch())
    before = transformers.AutoModel.from_pretrained(encoders["distilbert"]).state_dict()
    after = transformers.AutoModel.from_pretrained(tmp_path / "out/hf").state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert trained.history[-1]["loss"] < trained.history[0]["loss"]


def test_the_command_ends_with_a_report(tmp_path, encoders):
    """Pictures in it, ids of mistakes, and no message text."""
    data = written(tmp_path / "train.jsonl", lines("single-label", 120))
    done = CliRunner().invoke(
        app,
        ["train", "--base", encoders["bert"], "--data", str(data), "--out", str(tmp_path / "out"), "--epochs", "1",
         "--precision", "float32", "--min-agreement", "0", "--max-metric-drop", "1"],
        catch_exceptions=False,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "epoch 1" in done.output
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert page.count("<svg") == 4
    assert "<td>m" in page
    assert not any(row["text"] in page for row in lines("single-label", 120))


@pytest.mark.parametrize(
    ("rows", "more", "said"),
    [
        ([{"text": "a", "label": "x"}] * 9, {}, "has the label 'x' alone: there is nothing to tell apart"),
        ([{"text": "a"}], {}, "texts without labels"),
        (list(lines("single-label", 60)), {"task": "token"}, "--task token does not fit"),
        (list(lines("single-label", 60)), {"max_length": 9999}, "--max-length 9999 is more than the 64 tokens"),
        (list(lines("single-label", 60)), {"base": "/nowhere/at-all"}, "--base /nowhere/at-all cannot be read"),
    ],
)
def test_mistakes_are_sentences(tmp_path, encoders, rows, more, said):
    given = {"base": encoders["distilbert"], "precision": "float32"} | more
    with pytest.raises(ConfigError, match=said):
        train_all(Options(data=written(tmp_path / "d.jsonl", rows), out=tmp_path / "out", **given), Watch())


def test_pickles_are_refused(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ConfigError, match="pickles are not read, because they are programs"):
        bases.load(str(tmp_path), "single-label", ("a", "b"), 1)


def test_a_validation_file_with_other_labels_is_refused(tmp_path):
    data = written(tmp_path / "a.jsonl", lines("single-label", 30))
    other = written(tmp_path / "b.jsonl", [{"text": "a", "label": "eggs"}])
    with pytest.raises(ConfigError, match=r"b\.jsonl has labels that .*a\.jsonl does not know: eggs"):
        load(data, other, None)


def test_pieces_of_a_word_continue_its_tag():
    example = tokens_example("1", ["Ulmer", "in"], ["B-x", "O"])
    pieces = [(0, 0), (0, 2), (2, 5), (6, 8), (0, 0)]
    assert targets("token", ("O", "B-x", "I-x"), [example], [pieces]) == [[IGNORED, 1, 2, 0, IGNORED]]
    other = example._replace(tags=("U-x", "O"))
    assert targets("token", ("O", "U-x"), [other], [pieces]) == [[IGNORED, 1, IGNORED, 0, IGNORED]]


def test_rare_labels_weigh_more(tmp_path):
    rows = [{"text": f"{label} {i}", "label": label} for label, n in (("a", 90), ("b", 10)) for i in range(n)]
    texts = load(written(tmp_path / "a.jsonl", rows), None, None)
    balanced, root = label_weights(texts, "balanced"), label_weights(texts, "root")
    assert balanced[1] / balanced[0] == pytest.approx(9, rel=0.05)
    assert root[1] / root[0] == pytest.approx(3, rel=0.05)
    assert label_weights(texts, "none") is None


def test_a_loss_in_parts_is_the_loss_of_the_whole():
    """And without smoothing and weights the mean that torch computes."""
    torch.manual_seed(0)
    scores = torch.randn(6, 3)
    for objective, targets_ in (
        (Softmax(0.1, [1.0, 2.0, 0.5]), [[1.0, 0, 0], [0, 1, 0]] * 3),
        (Sigmoid(0.1, [1.0, 2.0, 0.5]), [[1.0, 0, 1], [0, 1, 0]] * 3),
    ):
        whole = objective.loss(scores, targets_)
        parts = objective.loss(scores[:2], targets_[:2]) + objective.loss(scores[2:], targets_[2:])
        assert float(whole) == pytest.approx(float(parts), rel=1e-5)
    tags = Tags(0.0)
    found = tags.loss(scores[None], [[0, 1, IGNORED, 2]]) / tags.weight([[0, 1, IGNORED, 2]])
    expected = torch.nn.functional.cross_entropy(scores[[0, 1, 3]], torch.tensor([0, 1, 2]))
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_batches_hold_each_text_once_and_little_padding():
    lengths = [random.Random(i).randrange(3, 200) for i in range(1000)]
    found = train.batches(lengths, 32, random.Random(0))
    assert sorted(i for batch in found for i in batch) == list(range(1000))
    assert len(found) == 32
    padded = sum(max(lengths[i] for i in batch) * len(batch) for batch in found)
    assert padded < 1.15 * sum(lengths)
