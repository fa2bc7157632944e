"""The table of architectures: where each keeps its tensors, and in what it differs from BERT."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_BERT_LAYER = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "output_norm": "output.LayerNorm",
}
_DISTILBERT_LAYER = {
    "query": "attention.q_lin",
    "key": "attention.k_lin",
    "value": "attention.v_lin",
    "attention_output": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "intermediate": "ffn.lin1",
    "output": "ffn.lin2",
    "output_norm": "output_layer_norm",
}
_MPNET_LAYER = _BERT_LAYER | {
    "query": "attention.attn.q",
    "key": "attention.attn.k",
    "value": "attention.attn.v",
    "attention_output": "attention.attn.o",
    "attention_norm": "attention.LayerNorm",
}
_BERT_KEYS = {
    "hidden": "hidden_size",
    "inner": "intermediate_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "activation": "hidden_act",
    "epsilon": "layer_norm_eps",
}
_DISTILBERT_KEYS = {
    "hidden": "dim",
    "inner": "hidden_dim",
    "layers": "n_layers",
    "heads": "n_heads",
    "activation": "activation",
}
CLASSIFIER = "classifier"
# The head of texts that leave early, which transformers does not know: its tensors begin with this, and config.json
# says under the other name after which layer it reads.
EARLY_EXIT, EARLY_EXIT_LAYER = "early_exit", "early_exit_layer"
EARLY_QUERIES = f"{EARLY_EXIT}.queries.weight"
EARLY_HEAD = ((f"{EARLY_EXIT}.pre_classifier", "relu"), f"{EARLY_EXIT}.{CLASSIFIER}")
# transformers names the classes of a family by these, after the family's own name.
TASKS = {"ForSequenceClassification": "sequence", "ForTokenClassification": "token"}


@dataclass(frozen=True)
class Family:
    """One architecture, told as its differences from BERT.

    Attributes:
        title: how its classes in transformers begin.
        base: prefix of the encoder's tensors.
        head: of sequence classification: (tensor, activation) before the last product, and the last product's tensor.
            A tensor named with a leading dot belongs to the encoder. The head of token classification is one product
            named `CLASSIFIER` everywhere.
        layers: the list of layers within the encoder.
        layer: field of `Layer` → its tensor within a layer.
        keys: what config.json calls the sizes. Without `epsilon` that of the norms is 1e-12.
        token_types: whether the embeddings have a table of token types.
        counts_positions: whether positions are counted from the padding token's id on.
        padding: that id; `None` when config.json gives it.
        projection: the product between embeddings and layers, where their widths differ.
        relative_bias: the table that is added to the attention scores by distance.
    """

    title: str
    base: str
    head: tuple[tuple[str, str], str]
    layers: str = "encoder.layer"
    layer: Mapping[str, str] = field(default_factory=lambda: _BERT_LAYER)
    keys: Mapping[str, str] = field(default_factory=lambda: _BERT_KEYS)
    token_types: bool = True
    counts_positions: bool = False
    padding: int | None = None
    projection: str | None = None
    relative_bias: str | None = None


_ROBERTA = Family("Roberta", "roberta", (("classifier.dense", "tanh"), "classifier.out_proj"), counts_positions=True)

FAMILIES: dict[str, Family] = {
    "bert": Family("Bert", "bert", ((".pooler.dense", "tanh"), CLASSIFIER)),
    "distilbert": Family(
        "DistilBert",
        "distilbert",
        (("pre_classifier", "relu"), CLASSIFIER),
        layers="transformer.layer",
        layer=_DISTILBERT_LAYER,
        keys=_DISTILBERT_KEYS,
        token_types=False,
    ),
    "roberta": _ROBERTA,
    "xlm-roberta": replace(_ROBERTA, title="XLMRoberta"),
    "electra": Family(
        "Electra",
        "electra",
        (("classifier.dense", "gelu"), "classifier.out_proj"),
        projection="embeddings_project",
    ),
    "mpnet": Family(
        "MPNet",
        "mpnet",
        (("classifier.dense", "tanh"), "classifier.out_proj"),
        layer=_MPNET_LAYER,
        token_types=False,
        counts_positions=True,
        padding=1,
        relative_bias="encoder.relative_attention_bias",
    ),
}
