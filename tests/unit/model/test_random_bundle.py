"""Bundles for measuring speed are bundles like any other."""

import numpy as np

from worker.model import bundle, random_bundle
from worker.model.assemble import Encode
from worker.model.session import Stages, open_session, run


def test_random_bundle_loads_and_answers_its_probes(tmp_path, monkeypatch):
    """Shown on a tiny size; the real ones differ in numbers only."""
    monkeypatch.setitem(random_bundle.SIZES, "tiny", {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2})
    made = random_bundle.write(tmp_path / "b", "tiny")
    assert made.manifest.name == "random-tiny"
    assert made.manifest.max_length == 512
    encode, session = Encode(made.tokenizer_json.encode(), 512), open_session(str(made.model_path))
    bundle.check_probes(made, lambda texts: run(session, encode(texts)))
    assert random_bundle.write(tmp_path / "c", "tiny").digest == made.digest


def test_weights_are_a_function_of_the_seed():
    config = random_bundle.random_config("small") | {"dim": 16, "hidden_dim": 32, "n_heads": 2, "vocab_size": 50}
    one, same, other = (random_bundle.random_checkpoint(config, seed) for seed in (1, 1, 2))
    for name, tensor in one.items():
        np.testing.assert_array_equal(tensor, same[name])
    assert not np.array_equal(one["classifier.weight"], other["classifier.weight"])


def test_a_random_bundle_in_two_stages_lets_as_many_texts_leave_as_asked(tmp_path, monkeypatch):
    monkeypatch.setitem(random_bundle.SIZES, "tiny", {"dim": 32, "hidden_dim": 64, "n_layers": 3, "n_heads": 2})
    made = random_bundle.write(tmp_path / "b", "tiny", exit_layer=2, left=0.75)
    early_exit = made.manifest.early_exit
    assert (early_exit.layer, early_exit.layers, early_exit.left) == (2, 3, 0.75)
    encode = Encode(made.tokenizer_json.encode(), 512)
    both = Stages(made.early_path.read_bytes(), made.rest_path.read_bytes())
    bundle.check_probes(made, lambda texts: both(encode(texts))[1], lambda texts: both(encode(texts))[0])
    assert random_bundle.write(tmp_path / "c", "tiny", exit_layer=2, left=0.75).digest == made.digest
