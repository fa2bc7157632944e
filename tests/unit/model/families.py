"""Small checkpoints of every architecture with random weights under transformers' own names.

The names and shapes stand here a second time on purpose; `test_parity` has transformers load them, all of them and
nothing but them. The weights leave no detail of a network without effect on the logits: norms away from 1, embeddings
so small that the norms' epsilon counts, biases everywhere, attention that looks around.
"""

import numpy as np

from worker.model.graph.builder import STAGES, build
from worker.model.graph.network import from_checkpoint
from worker.model.graph.observe import observe
from worker.model.session import open_session

KINDS = ("bert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta")
TITLES = {
    "bert": "Bert",
    "distilbert": "DistilBert",
    "electra": "Electra",
    "mpnet": "MPNet",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
}
TASKS = {"sequence": "ForSequenceClassification", "token": "ForTokenClassification"}
VOCABULARY = 400
QUERIES = 8
HIDDEN, INNER, LAYERS, HEADS, NARROW = 64, 128, 3, 2, 32
BERT_LAYER = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
DISTILBERT_LAYER = ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin")
MPNET_LAYER = ("attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o")


def config_of(kind, task="sequence", labels=3, **changes):
    """config.json of a small network."""
    common = {
        "model_type": kind,
        "architectures": [TITLES[kind] + TASKS[task]],
        "vocab_size": VOCABULARY,
        "id2label": {str(i): f"label {i}" for i in range(labels)},
    }
    if kind == "distilbert":
        sizes = {"dim": HIDDEN, "hidden_dim": INNER, "n_layers": LAYERS, "n_heads": HEADS, "activation": "gelu"}
        return common | sizes | {"max_position_embeddings": 512, "pad_token_id": 0} | changes
    sizes = {"hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS, "hidden_act": "gelu"}
    offset = 0 if kind in ("bert", "electra") else 2
    other = {"num_attention_heads": HEADS, "layer_norm_eps": 1e-4, "max_position_embeddings": 512 + offset}
    if kind == "electra":
        other |= {"embedding_size": NARROW}
    if kind in ("roberta", "xlm-roberta"):
        other |= {"type_vocab_size": 1}
    return common | sizes | other | {"pad_token_id": 1 if offset else 0} | changes


def tensors_of(config, seed=0):
    """Random tensors for a config of `config_of`, named as transformers names them."""
    rng = np.random.default_rng(seed)

    def normal(spread, *shape):
        return rng.normal(0, spread, shape).astype(np.float32)

    out = {}
    for name, shape in embeddings(config).items():
        spread = 0.6 if "relative" in name else 0.2 if "queries" in name else 0.02
        out[name] = normal(spread, *shape)
    for name, (outputs, inputs) in products(config).items():
        out |= {f"{name}.weight": normal(1.2 / inputs**0.5, outputs, inputs), f"{name}.bias": normal(0.3, outputs)}
    for name, size in norms(config).items():
        out |= {f"{name}.weight": 1 + normal(0.3, size), f"{name}.bias": normal(0.3, size)}
    return out


def base_of(config):
    return {"xlm-roberta": "roberta"}.get(config["model_type"], config["model_type"])


def sizes_of(config):
    """Width of the layers, width within their feed-forward part, number of layers."""
    if config["model_type"] == "distilbert":
        return config["dim"], config["hidden_dim"], config["n_layers"]
    return config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]


def embeddings(config):
    kind, at = config["model_type"], f"{base_of(config)}.embeddings"
    width = config.get("embedding_size", sizes_of(config)[0])
    tables = {"word": config["vocab_size"], "position": config["max_position_embeddings"]}
    if kind not in ("distilbert", "mpnet"):
        tables["token_type"] = config.get("type_vocab_size", 2)
    shapes = {f"{at}.{name}_embeddings.weight": (rows, width) for name, rows in tables.items()}
    if "early_exit_layer" in config:
        shapes["early_exit.queries.weight"] = (QUERIES, sizes_of(config)[0])
    if kind == "mpnet":
        shapes["mpnet.encoder.relative_attention_bias.weight"] = (32, config["num_attention_heads"])
    return shapes


def layer_names(config):
    """Prefix of the layers, the four products of attention, its norm, both products after it, the last norm."""
    kind, base = config["model_type"], base_of(config)
    if kind == "distilbert":
        names = ("sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm")
        return f"{base}.transformer.layer", DISTILBERT_LAYER, *names
    attention = MPNET_LAYER if kind == "mpnet" else BERT_LAYER
    norm = "attention.LayerNorm" if kind == "mpnet" else "attention.output.LayerNorm"
    return f"{base}.encoder.layer", attention, norm, "intermediate.dense", "output.dense", "output.LayerNorm"


def products(config):
    """Shape [out, in] of every product."""
    hidden, inner, layers = sizes_of(config)
    at, attention, _, first, second, _ = layer_names(config)
    shapes = {}
    if config["model_type"] == "electra" and config["embedding_size"] != hidden:
        shapes["electra.embeddings_project"] = (hidden, config["embedding_size"])
    for i in range(layers):
        shapes |= {f"{at}.{i}.{name}": (hidden, hidden) for name in attention}
        shapes |= {f"{at}.{i}.{first}": (inner, hidden), f"{at}.{i}.{second}": (hidden, inner)}
    labels = len(config["id2label"])
    if "early_exit_layer" in config:
        shapes |= {"early_exit.pre_classifier": (hidden, QUERIES * hidden), "early_exit.classifier": (labels, hidden)}
    return shapes | head(config, hidden, labels)


def head(config, hidden, labels):
    kind = config["model_type"]
    if config["architectures"][0].endswith(TASKS["token"]):
        return {"classifier": (labels, hidden)}
    if kind == "bert":
        return {"bert.pooler.dense": (hidden, hidden), "classifier": (labels, hidden)}
    if kind == "distilbert":
        return {"pre_classifier": (hidden, hidden), "classifier": (labels, hidden)}
    return {"classifier.dense": (hidden, hidden), "classifier.out_proj": (labels, hidden)}


def norms(config):
    """Width of every norm."""
    hidden, _, layers = sizes_of(config)
    at, _, first, _, _, second = layer_names(config)
    sizes = {f"{base_of(config)}.embeddings.LayerNorm": config.get("embedding_size", hidden)}
    return sizes | {f"{at}.{i}.{name}": hidden for i in range(layers) for name in (first, second)}


def rows(lengths, seed=0):
    """Random token ids of the given lengths, none of them padding."""
    rng = np.random.default_rng(seed)
    return [rng.integers(2, VOCABULARY, n).tolist() for n in lengths]


def network_of(kind, task="sequence", seed=3, **changes):
    config = config_of(kind, task, **changes)
    return from_checkpoint(config, tensors_of(config, seed))


def ranges_of(network):
    return observe(network, rows([3, 8, 20, 60, 200], seed=9)).ranges()


def stages_of(network, ranges=None, **options):
    """Sessions of both stages."""
    return [session_of(network, ranges, stage=stage, **options) for stage in STAGES]


def session_of(network, ranges=None, **options):
    return open_session(build(network, ranges, **options).SerializeToString())
