"""Every task and every family from a file to a bundle; what transformers makes of the Hugging Face folder is ours."""

import numpy as np
import orjson
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [train]")
transformers = pytest.importorskip("transformers", reason="needs the extra [train]")

from tests.unit.model.training.tiny import GOODNESS, Watch, lines, options, written  # noqa: E402
from worker.errors import ConfigError  # noqa: E402
from worker.model.evaluation import answers as judging  # noqa: E402
from worker.model.evaluation import measure  # noqa: E402
from worker.model.evaluation.predict import Predictor  # noqa: E402
from worker.model.graph.builder import build  # noqa: E402
from worker.model.graph.network import from_checkpoint  # noqa: E402
from worker.model.importing import checkpoint  # noqa: E402
from worker.model.session import open_session, run  # noqa: E402
from worker.model.training.corpus import load  # noqa: E402
from worker.model.training.run import train  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]
ALLOWED = 1e-4
RIGHT = {"single-label": 0.95, "multi-label": 0.8, "token": 0.95}


def logits_one_by_one(folder, task, texts):
    """What transformers says of each text with its own tokenizer, and what our FP32 graph of the same folder says."""
    kind = "TokenClassification" if task == "token" else "SequenceClassification"
    model = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with checkpoint.open_tensors(folder) as tensors:
        graph = build(from_checkpoint(checkpoint.read_json(folder / "config.json"), tensors))
    session = open_session(graph.SerializeToString())
    for text in texts:
        given = tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            theirs = model(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).logits[0].numpy()
        yield theirs, run(session, [given["input_ids"][0].tolist()])[0]


CASES = [
    *((task, "distilbert") for task in ("single-label", "multi-label", "regression", "token")),
    *(("single-label", family) for family in ("bert", "electra", "mpnet", "roberta")),
    *(("token", family) for family in ("bert", "roberta")),
]


@pytest.mark.parametrize(("task", "family"), CASES)
def test_a_task_is_learnt_and_transformers_says_the_same(tmp_path, encoders, task, family):
    """Text by text and to 1e-4: transformers over the folder, our FP32 graph of it, and what training measured."""
    rows = list(lines(task, 40, seed=1))
    given = options(tmp_path, encoders, task, base=family, test=written(tmp_path / "test.jsonl", rows))
    trained = train(given, Watch())
    manifest = trained.bundle.manifest
    assert (manifest.task, manifest.evaluation[-1].channel) == (task, "test")
    if task == "regression":
        assert measure.measure(trained.answers)["r2"] > 0.9
    else:
        assert (trained.answers.decided == trained.answers.truth).mean() > RIGHT[task]
    if task == "token":
        assert measure.measure(trained.answers)["served"]["f1"] > 0.9

    texts = [row.get("text") or " ".join(row["tokens"]) for row in rows]
    theirs = []
    for expected, found in logits_one_by_one(tmp_path / "out/hf", task, texts):
        assert np.abs(expected - found).max() <= ALLOWED * max(1.0, np.abs(expected).max())
        theirs.append(expected[1:-1] if task == "token" else expected[None])
    scores = judging.activated(task, np.concatenate(theirs), manifest.temperature)
    assert trained.fp32.scores == pytest.approx(scores, rel=ALLOWED, abs=ALLOWED)
    summary = orjson.loads((tmp_path / "out/training.json").read_bytes())
    assert (summary["measured_on"], len(summary["history"])) == ("test", len(trained.history))
    if task != "regression":
        same = trained.answers.decided == trained.fp32.decided
        assert summary["same_decision"] == manifest.evaluation[-1].same_label == round(float(same.mean()), 4)
    assert ("same_set" in summary) == (task == "multi-label")
    if task == "multi-label":
        assert summary["same_set"] == round(float(same.all(axis=1).mean()), 4)


def test_the_hugging_face_folder_names_labels_and_task(tmp_path, encoders):
    """What transformers' pipeline shows is what the bundle says."""
    trained = train(options(tmp_path, encoders, "multi-label", epochs=1), Watch())
    config = transformers.AutoConfig.from_pretrained(tmp_path / "out/hf")
    assert tuple(config.id2label.values()) == trained.bundle.labels
    assert config.problem_type == "multi_label_classification"


def test_a_regression_gives_the_numbers_themselves(tmp_path, encoders):
    """Not parts of their spread: 10, 30 and 50 are learnt as they are, with the head alone too."""
    trained = train(options(tmp_path, encoders, "regression", freeze_encoder=True, epochs=3, rate=1e-2), Watch())
    assert trained.bundle.labels == ("value",)
    assert abs(trained.answers.decided.mean() - np.mean(list(GOODNESS.values()))) < 5
    found = measure.measure(
        Predictor(trained.bundle)(load(tmp_path / "train.jsonl", None, None, task="regression").validation)
    )
    assert set(found) >= {"mean_absolute_error", "root_mean_squared_error", "pearson", "spearman"}


@pytest.mark.parametrize(
    ("label", "more", "said"),
    [
        ("many", {}, "the label of the text 7 is no number"),
        ("nan", {}, "the label of the text 7 is no number"),
        (1, {"label_weights": "root"}, "--label-weights root is for labels, and a regression has none"),
    ],
)
def test_what_is_no_regression_is_a_sentence(tmp_path, encoders, label, more, said):
    given = options(tmp_path, encoders, "regression", **more)
    written(given.data, [{"id": i, "text": f"a {i}", "label": label if i == 7 else i} for i in range(30)])
    with pytest.raises(ConfigError, match=said):
        train(given, Watch())
