"""Encoders so small that training them takes a second, and texts in which single words decide."""

import random

import orjson
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from worker.model.training.run import Options

FILL = [*"abcdefghijklmnop"]
# MPNet counts its positions from the padding id 1, whatever its configuration says.
WORDS = {word: i for i, word in enumerate(["[UNK]", "[PAD]", "[CLS]", "[SEP]", "good", "bad", "great", "ulm", *FILL])}
SMALL = {"vocab_size": len(WORDS), "pad_token_id": 1, "max_position_embeddings": 64}
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
FAMILIES = {
    "bert": transformers.BertConfig(**SMALL, **SIZES),
    "distilbert": transformers.DistilBertConfig(**SMALL, dim=32, hidden_dim=64, n_layers=2, n_heads=2),
    "electra": transformers.ElectraConfig(**SMALL, **SIZES, embedding_size=16),
    "mpnet": transformers.MPNetConfig(**SMALL, **SIZES),
    "roberta": transformers.RobertaConfig(**SMALL, **SIZES),
}
GOODNESS = {"good": 30.0, "bad": 10.0, "great": 50.0}


def save_encoder(family, folder):
    """A random encoder with its tokenizer, as transformers writes them."""
    torch.manual_seed(0)
    transformers.AutoModel.from_config(FAMILIES[family]).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    return str(folder)


def lines(task, count, seed=0):
    """Texts of a task as a file has them; the number of a regression is that of its word, and some noise."""
    rng = random.Random(seed)
    for i in range(count):
        words = rng.choices(FILL, k=rng.randrange(3, 12))
        if task == "token":
            words.insert(rng.randrange(len(words)), "ulm")
            yield {"tokens": words, "tags": ["B-place" if word == "ulm" else "O" for word in words]}
            continue
        said = [word for word in GOODNESS if rng.random() < 0.5]
        if task != "multi-label":
            said = [rng.choice(list(GOODNESS))]
        rng.shuffle(words := words + said)
        label = {"labels": said} if task == "multi-label" else {"label": said[0]}
        if task == "regression":
            label = {"label": round(GOODNESS[said[0]] + rng.gauss(0, 1), 2)}
        yield {"id": f"m{i}", "text": " ".join(words), **label}


def written(path, rows):
    path.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    return path


class Watch:
    """Keeps what it is told, and stops after `steps` steps, or as the phase `at` begins."""

    def __init__(self, steps=None, at=None):
        self.steps, self.at, self.entries, self.phases = steps, at, [], []

    def phase(self, name, total):
        self.phases.append(name)

    def step(self, done, text=""):
        if self.steps is not None and text:
            self.steps -= done

    def epoch(self, entry):
        self.entries.append(entry)

    def stopping(self):
        return self.at in self.phases or (self.steps is not None and self.steps <= 0)


def options(tmp_path, encoders, task, **more):
    """Those of a training that learns such texts within a second."""
    base = more.pop("base", "distilbert")
    settings = {"epochs": 12, "batch": 16, "rate": 5e-3, "precision": "float32", "train_embeddings": True}
    settings |= {"min_agreement": 0.5, "max_metric_drop": 0.5, "out": tmp_path / "out", "seed": 3, "patience": 5}
    settings |= {"task": "regression" if task == "regression" else "auto"}
    return Options(base=encoders[base], data=written(tmp_path / "train.jsonl", lines(task, 240)), **settings | more)
