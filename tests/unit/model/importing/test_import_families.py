"""Checkpoints and tokenizers as transformers saves them, imported from end to end; runs where `train` is installed."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from tests.unit.model import checkpoints
from tests.unit.model.families import config_of, tensors_of
from worker.app import open_model
from worker.config import ModelSettings
from worker.model.assemble import Encode
from worker.model.data import Example
from worker.model.graph.builder import build
from worker.model.graph.network import from_checkpoint
from worker.model.importing import checkpoint
from worker.model.importing.importer import Importer, ImportOptions
from worker.model.session import open_session, run

torch = pytest.importorskip("torch", reason="needs the extra [train]")
transformers = pytest.importorskip("transformers", reason="needs the extra [train]")

pytestmark = pytest.mark.torch
ALLOWED = 2e-5
TEXTS = [
    *checkpoints.texts(30),
    "The LATE train!",
    "déjà vu, naïve",
    "🚂 is late",
    "图书 good",
    "  two   spaces\tand\n",
]
MODELS = [
    ("bert", "sequence"),
    ("bert", "token"),
    ("distilbert", "sequence"),
    ("electra", "sequence"),
    ("mpnet", "sequence"),
    ("roberta", "sequence"),
    ("xlm-roberta", "sequence"),
]


def word_pieces(kind):
    special = {"mpnet": ("<s>", "<pad>", "</s>", "[UNK]", "<mask>")}.get(kind)
    words = [*special, *checkpoints.VOCABULARY[5:]] if special else checkpoints.VOCABULARY
    name = {"bert": "BertTokenizer", "distilbert": "DistilBertTokenizer", "electra": "ElectraTokenizer"}
    kind_of = getattr(transformers, name.get(kind, "MPNetTokenizer"))
    return kind_of(vocab={word: i for i, word in enumerate(words)}, model_max_length=64)


def trained(kind):
    """A tokenizer of bytes (RoBERTa) or of sentence pieces (XLM-RoBERTa), learnt from the texts."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    if kind == "roberta":
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=360, special_tokens=special, initial_alphabet=alphabet)
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", mask_token="<mask>", model_max_length=64, **names
    )


@pytest.fixture(params=MODELS, ids=" ".join)
def saved(request, tmp_path):
    """The folder, the model and the tokenizer as transformers has them."""
    kind, task = request.param
    config, folder = config_of(kind, task), tmp_path / "saved"
    model = getattr(transformers, config["architectures"][0])(transformers.AutoConfig.for_model(**config)).eval()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in tensors_of(config).items()}, strict=False)
    tokenizer = trained(kind) if "roberta" in kind else word_pieces(kind)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder, model, tokenizer


def test_saved_checkpoint_is_imported(saved, tmp_path):
    """The same ids for every text, FP32's logits those of transformers, and a bundle that the worker opens."""
    folder, model, tokenizer = saved
    texts = [Example(str(i), text) for i, text in enumerate(TEXTS)]
    made = Importer(folder, ImportOptions(calibration=texts, min_agreement=0.0)).run(tmp_path / "out").bundle
    rows = Encode(made.tokenizer_json.encode(), 64)(TEXTS)
    assert rows == tokenizer(TEXTS, truncation=True, max_length=64)["input_ids"]
    with checkpoint.open_tensors(folder) as tensors:
        network = from_checkpoint(checkpoint.read_json(folder / "config.json"), tensors)
    exact = open_session(build(network).SerializeToString())
    for row in rows:
        with torch.inference_mode():
            right = model(input_ids=torch.tensor([row]), attention_mask=torch.ones(1, len(row))).logits.numpy()
        assert float(np.abs(run(exact, [row]) - right).max()) <= ALLOWED
    assert open_model(ModelSettings(bundle=str(made.path)))
