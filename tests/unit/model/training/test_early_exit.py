"""`winnow train --early-exit`: both heads, over a frozen encoder or not, or that of a finished model alone."""

import numpy as np
import orjson
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [train]")
transformers = pytest.importorskip("transformers", reason="needs the extra [train]")

from safetensors.numpy import load_file  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from tests.unit.model import families  # noqa: E402
from tests.unit.model.training.tiny import Watch, lines, options, written  # noqa: E402
from worker.cli import app  # noqa: E402
from worker.errors import ConfigError  # noqa: E402
from worker.model.graph.builder import build  # noqa: E402
from worker.model.graph.network import from_checkpoint  # noqa: E402
from worker.model.importing.importer import Importer, ImportOptions  # noqa: E402
from worker.model.session import Stages  # noqa: E402
from worker.model.training import early_exit, frozen  # noqa: E402
from worker.model.training import fine_tuning as train  # noqa: E402
from worker.model.training.fitting import Stopped  # noqa: E402
from worker.model.training.run import train as train_all  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]
LENGTHS = (3, 40, 17, 5, 60, 1, 2)
EARLY_TENSORS = {
    "early_exit.queries.weight",
    *(f"early_exit.{part}.{kind}" for part in ("pre_classifier", "classifier") for kind in ("weight", "bias")),
}


def model_of(config, tensors):
    """The model of transformers with an early head."""
    kind = getattr(transformers, config["architectures"][0])
    model = kind(transformers.AutoConfig.for_model(**config)).eval()
    early_exit.add(model, config["early_exit_layer"])
    missing, unexpected = model.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()}, strict=False)
    assert (missing, unexpected) == ([], [])
    return model.eval()


def stages_of(config, tensors):
    network = from_checkpoint(config, tensors)
    return Stages(*(build(network, stage=s).SerializeToString() for s in ("early", "rest")), config["pad_token_id"])


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("kind", families.KINDS)
def test_both_heads_say_what_the_stages_say(kind, layer):
    """Ragged batches, random weights, FP32: 1e-5 in parts of the largest logit."""
    config = families.config_of(kind, early_exit_layer=layer)
    tensors = families.tensors_of(config, seed=layer)
    rows = families.rows(LENGTHS)
    model = model_of(config, tensors)
    given = train.padded(rows, config["pad_token_id"])
    with early_exit.answering(model), torch.inference_mode():
        right = model(**given).logits.numpy()
    last, early = np.split(right, 2, axis=1)
    found = stages_of(config, tensors)(rows, batch=len(rows))
    for ours, theirs in zip(found, (early, last), strict=True):
        assert np.abs(ours - theirs).max() <= 1e-5 * max(1.0, np.abs(theirs).max())
    with torch.inference_mode():
        assert model(**given).logits.shape == (len(rows), 3), "outside of `answering` the model is as it was"


@pytest.mark.parametrize("kind", families.KINDS)
def test_kept_states_give_both_heads_what_the_encoder_gives_them(kind):
    """As far as sixteen bits hold them."""
    config = families.config_of(kind, early_exit_layer=1)
    model = model_of(config, families.tensors_of(config))
    rows, pad = families.rows(LENGTHS), config["pad_token_id"]
    states = frozen.encoded(model, rows, lambda some: train.padded(some, pad), "float32", whole=False)
    with early_exit.answering(model), torch.inference_mode():
        right = model(**train.padded(rows, pad)).logits.numpy()
        with frozen.replaced(model):
            found = model(**frozen.collate(states)).logits.numpy()
    np.testing.assert_allclose(found, right, atol=2e-3 * max(1.0, np.abs(right).max()))


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
@pytest.mark.parametrize("frozen_encoder", [False, True])
def test_both_heads_are_learnt_and_the_bundle_has_two_stages(tmp_path, encoders, family, frozen_encoder):
    rows = written(tmp_path / "test.jsonl", lines("single-label", 60, seed=1))
    more = {"freeze_encoder": True, "epochs": 60, "rate": 5e-2} if frozen_encoder else {}
    given = options(
        tmp_path, encoders, "single-label", base=family, early_exit=True, exit_agreement=0.9, test=rows, **more
    )
    watch = Watch()
    trained = train_all(given, watch)
    manifest = trained.bundle.manifest
    assert (manifest.early_exit.layer, manifest.early_exit.layers) == (1, 2)
    assert manifest.early_exit.agreement >= 0.9
    assert {"early.onnx", "rest.onnx"} <= set(manifest.files)
    both = manifest.evaluation[-1].early_exit
    assert both.left == round(float(trained.answers.left.mean()), 4)
    assert both.same_label == round(float((trained.answers.decided == trained.whole.decided).mean()), 4)
    assert {"macro F1 of the other head", "macro F1"} <= set(watch.entries[0])
    assert trained.answers.notes[0].startswith(f"{manifest.early_exit.left:.1%} of 24 texts leave after layer 1 of 2")
    saved = load_file(tmp_path / "out/hf/model.safetensors")
    assert "early_exit.pre_classifier.weight" in saved
    assert orjson.loads((tmp_path / "out/hf/config.json").read_bytes())["early_exit_layer"] == 1
    summary = orjson.loads((tmp_path / "out/training.json").read_bytes())
    assert summary["early_exit"]["layer"] == 1
    assert summary["with_exits"]["left_early"] == both.left
    if not frozen_encoder:
        assert (trained.whole.decided == trained.answers.truth).mean() > 0.9
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out/hf")
    assert model.config.num_labels == 3


@pytest.fixture
def fine_tuned(tmp_path_factory, encoders):
    """A model without an early head, as `winnow train` leaves it."""
    folder = tmp_path_factory.mktemp("fine tuned")
    train_all(options(folder, encoders, "single-label", epochs=6), Watch())
    return folder / "out/hf"


def test_the_head_of_a_finished_model_is_learnt_alone(tmp_path, fine_tuned):
    """Not a number of what was there changes; labels may be fewer than the model has, and ids."""
    ids = {"bad": 0, "good": 1, "great": 2}
    rows = [{**row, "label": ids[row["label"]]} for row in lines("single-label", 240) if row["label"] != "great"]
    given = options(
        tmp_path, {"distilbert": str(fine_tuned)}, "single-label", early_exit=True, freeze_model=True, epochs=20
    )
    written(given.data, rows)
    watch = Watch()
    trained = train_all(given, watch)
    before, after = load_file(fine_tuned / "model.safetensors"), load_file(tmp_path / "out/hf/model.safetensors")
    assert {name for name in after if name not in before} == EARLY_TENSORS
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    assert trained.bundle.labels == ("bad", "good", "great")
    assert len({entry["macro F1 of the other head"] for entry in watch.entries}) == 1
    assert max(entry["macro F1"] for entry in watch.entries) > 0.9


def test_states_that_do_not_fit_into_memory_are_refused_before_the_encoder_runs(tmp_path, encoders, monkeypatch):
    from worker.model.training import fitting

    monkeypatch.setattr(fitting.os, "sysconf", {"SC_PHYS_PAGES": 2, "SC_PAGE_SIZE": 4096}.__getitem__)
    with pytest.raises(ConfigError, match=r"takes .* GB of memory, and this machine has 0\.0: give fewer texts"):
        train_all(options(tmp_path, encoders, "single-label", early_exit=True, freeze_encoder=True), Watch())


def test_a_training_with_an_early_head_goes_on_where_it_stopped(tmp_path, encoders):
    (tmp_path / "whole").mkdir()
    more = {"early_exit": True, "epochs": 2, "exit_agreement": 0.5}
    train_all(options(tmp_path, encoders, "single-label", out=tmp_path / "whole/out", **more), Watch())
    with pytest.raises(Stopped):
        train_all(options(tmp_path, encoders, "single-label", **more), Watch(20))
    with pytest.raises(ConfigError, match="is of a training with other texts or settings"):
        train_all(options(tmp_path, encoders, "single-label", epochs=2, resume=True), Watch())
    train_all(options(tmp_path, encoders, "single-label", **more, resume=True), Watch())
    one, other = (tmp_path / out / "hf/model.safetensors" for out in ("whole/out", "out"))
    assert one.read_bytes() == other.read_bytes()


def test_a_head_that_is_never_sure_leaves_one_stage(tmp_path, encoders, monkeypatch):
    from worker.model.importing import leaving

    monkeypatch.setattr(leaving, "calibrate", lambda *_: None)
    trained = train_all(options(tmp_path, encoders, "single-label", early_exit=True, epochs=1), Watch())
    assert trained.bundle.manifest.early_exit is None
    assert trained.bundle.model_path.exists()
    assert trained.answers.notes == ("no text is sure enough to leave early, so the bundle has one stage",)


def test_an_import_leaves_the_early_head_out_and_says_so(tmp_path, encoders):
    given = options(tmp_path, encoders, "single-label", early_exit=True, epochs=1, exit_agreement=0.5)
    train_all(given, Watch())
    imported = Importer(tmp_path / "out/hf", ImportOptions(min_agreement=0.5)).run(tmp_path / "imported")
    assert imported.bundle.manifest.early_exit is None
    assert any(
        note.startswith("the checkpoint has a head for early exit, which is left out") for note in imported.notes
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"exit_layer": 1}, "^--exit-layer has no meaning without --early-exit: add it"),
        ({"freeze_model": True}, "^--freeze-model has no meaning without --early-exit: add it"),
        (
            {"early_exit": True, "exit_layer": 2},
            "^--exit-layer 2 leaves nothing to be spared of the 2 layers.*from 1 to 1",
        ),
        ({"early_exit": True, "freeze_model": True}, "has no classifier of its own, which --freeze-model leaves"),
        ({"early_exit": True, "freeze_model": True, "base": "minilm"}, "^--base minilm has no classifier of its own"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, encoders, more, message):
    with pytest.raises(ConfigError, match=message):
        train_all(options(tmp_path, encoders | {"minilm": "minilm"}, "single-label", **more), Watch())


@pytest.mark.parametrize("task", ["multi-label", "regression", "token"])
def test_other_tasks_are_refused(tmp_path, encoders, task):
    with pytest.raises(ConfigError, match=rf"^--early-exit is for texts with one label, and .* is for {task}\.$"):
        train_all(options(tmp_path, encoders, task, early_exit=True), Watch())


def test_an_encoder_of_one_layer_is_refused(tmp_path, encoders):
    folder = tmp_path / "flat"
    config = transformers.DistilBertConfig(vocab_size=30, dim=16, hidden_dim=16, n_layers=1, n_heads=2)
    transformers.DistilBertModel(config).save_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoders["distilbert"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ConfigError, match=r"of the 1 layers of --base .*: leave --early-exit out"):
        train_all(options(tmp_path, {"distilbert": str(folder)}, "single-label", early_exit=True), Watch())


def test_a_graph_without_a_checkpoint_is_refused(tmp_path, encoders):
    folder = tmp_path / "exported"
    (folder / "onnx").mkdir(parents=True)
    (folder / "onnx/model.onnx").write_bytes(b"graph")
    with pytest.raises(ConfigError, match=r"exported holds a graph \(ONNX\) and no weights that could be trained"):
        train_all(options(tmp_path, {"distilbert": str(folder)}, "single-label", early_exit=True), Watch())


def test_labels_that_a_finished_model_does_not_know_are_refused(tmp_path, fine_tuned):
    given = options(tmp_path, {"distilbert": str(fine_tuned)}, "single-label", early_exit=True, freeze_model=True)
    written(given.data, [{**row, "label": row["label"] + "!"} for row in lines("single-label", 60)])
    with pytest.raises(ConfigError, match="labels"):
        train_all(given, Watch())


def test_an_early_head_is_learnt_alone():
    """`fit_early_head` needs nothing but the states and what all layers say, which it learns to say."""
    config = families.config_of("distilbert", early_exit_layer=2)
    tensors = families.tensors_of(config)
    rows = families.rows(np.random.default_rng(0).integers(3, 9, 240))
    states, last = stages_of(config, tensors).states(rows)
    assert [each.shape for each in states] == [(len(row), config["dim"]) for row in rows]
    assert {each.dtype for each in states} == {np.dtype(np.float16)}
    torch.manual_seed(0)
    head = early_exit.EarlyHead(config["dim"], last.shape[1], dropout=0.1)
    settings = train.Settings(epochs=20, batch=16, rate=5e-3, layer_decay=1.0, ema=0.9)
    losses = []
    seen = [frozen.Seen(*each) for each in zip(states, last, strict=True)]
    frozen.fit_early_head(head, seen, settings, lambda *said: losses.append(said))
    assert losses[-1][:2] == (300, 300)
    learnt = {f"early_exit.{name}": value.detach().numpy() for name, value in head.state_dict().items()}
    assert set(learnt) == EARLY_TENSORS
    early, again = stages_of(config, tensors | learnt)(rows)
    np.testing.assert_allclose(again, last, atol=1e-4)
    wanted, found = (torch.from_numpy(each).softmax(1).numpy() for each in (last, early))
    assert np.abs(wanted - found).mean() < wanted.std(axis=0).mean() / 2, "closer than one guess for all"
    least = -(wanted * np.log(wanted)).sum(axis=1).mean()
    assert np.mean([loss for _, _, loss in losses[-15:]]) - least < (losses[0][2] - least) / 4


def test_what_is_not_learnt_drops_out_of_nothing_and_is_given_back():
    model = model_of(config := families.config_of("bert", early_exit_layer=1), families.tensors_of(config))
    dropped = {name: each.p for name, each in model.named_modules() if isinstance(each, torch.nn.Dropout)}
    assert max(dropped.values()) > 0
    with early_exit.alone(model):
        for name, each in model.named_modules():
            if isinstance(each, torch.nn.Dropout):
                assert each.p == (dropped[name] if name.startswith("early_exit") else 0.0), name
        assert {name for name, each in model.named_parameters() if each.requires_grad} == EARLY_TENSORS
    assert {name: each.p for name, each in model.named_modules() if isinstance(each, torch.nn.Dropout)} == dropped
    assert all(each.requires_grad for each in model.parameters())


def test_the_command_trains_two_stages_and_shows_both(tmp_path, encoders):
    data = written(tmp_path / "train.jsonl", lines("single-label", 240))
    said = ["--base", encoders["distilbert"], "--data", str(data), "--out", str(tmp_path / "out"), "--epochs", "12"]
    said += ["--rate", "5e-3", "--batch", "16", "--train-embeddings", "--precision", "float32", "--seed", "3"]
    said += ["--min-agreement", "0.5", "--max-metric-drop", "0.5", "--early-exit", "--exit-agreement", "0.9"]
    done = CliRunner().invoke(app, ["train", *said])
    assert done.exit_code == 0, done.output
    assert "all layers" in done.output
    assert "left early" in done.output
    shown = CliRunner().invoke(app, ["evaluate", str(tmp_path / "out/bundle"), str(data), "--json"])
    document = orjson.loads(shown.stdout)
    assert document["all_layers"]["accuracy"] > 0.9
    assert 0 < document["left_early"] <= 1
    assert document["same_label"] >= 0.9
    off = ["evaluate", str(tmp_path / "out/bundle"), str(data), "--json", "--set", "model.early_exit=off"]
    alone = orjson.loads(CliRunner().invoke(app, off).stdout)
    assert "left_early" not in alone
    assert alone["accuracy"] == document["all_layers"]["accuracy"]
    table = CliRunner().invoke(app, ["evaluate", str(tmp_path / "out/bundle"), str(data)])
    assert "of the texts get the same label as from all layers." in table.output
