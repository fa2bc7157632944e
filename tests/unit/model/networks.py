"""A small network with random weights, its graphs, and texts of all lengths."""

import numpy as np

from worker.model.graph.builder import build
from worker.model.graph.network import from_checkpoint
from worker.model.graph.observe import observe
from worker.model.random_bundle import random_checkpoint
from worker.model.session import open_session

VOCABULARY = 400
CONFIG = {
    "model_type": "distilbert",
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 512,
    "dim": 64,
    "hidden_dim": 128,
    "n_layers": 3,
    "n_heads": 2,
    "activation": "gelu",
    "pad_token_id": 0,
    "id2label": {"0": "a", "1": "b", "2": "c"},
}


def network():
    return from_checkpoint(CONFIG, random_checkpoint(CONFIG, seed=3))


def rows(lengths, seed=0):
    """Random token ids of the given lengths, none of them padding."""
    rng = np.random.default_rng(seed)
    return [rng.integers(1, VOCABULARY, n).tolist() for n in lengths]


def int8_model():
    small = network()
    return build(small, observe(small, rows([3, 8, 20, 60, 200], seed=9)).ranges())


def int8_session():
    return open_session(int8_model().SerializeToString())
