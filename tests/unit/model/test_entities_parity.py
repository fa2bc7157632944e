"""Entities are those of transformers' pipeline, strategy by strategy; runs where the extra `train` is installed.

Encoders have random weights, so that tags come in every order, sensible or not. With WNUT17_FOLDER naming a folder of
JSON lines ({"tokens": …}), the sentences in it are compared too.
"""

import json
import os
import random
import warnings
from itertools import islice
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import worker.demo
from worker.pipeline.entities import STRATEGIES, EntityGrouper, TokenSpans
from worker.pipeline.interpret import softmax

torch = pytest.importorskip("torch", reason="needs the extra [train]")
transformers = pytest.importorskip("transformers", reason="needs the extra [train]")

from worker.model.training import encoder  # noqa: E402

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:Tokenizer does not support real words"),
]
LABELS = {
    "IOB2": ["O", *(f"{p}-{kind}" for kind in ("person", "location", "work-of-art") for p in "BI")],
    "IOB1": ["I-PER", "O", "I-LOC", "B-LOC", "B-PER"],
    "plain": ["O", "person", "creative-work", "LABEL_3"],
}
MOST_TOKENS = 128
SURFACES = (
    "Zoe\u0308", "Zoë", "Ünïcödé", "👩‍👩‍👧", "👍🏽", "❤️", "🇩🇪", "ｆｕｌｌ", "ﬁnance", "½", "東京", "서울", "Łódź",
    "Ελλάδα", "a\x00b", "c\u200dd", "e\u0301\u0301", "\u0301x", "İstanbul", "straße", "don't", "[UNK]", "[SEP]",
    "##ing", "@u", "http://a.b/c?d=e", "1,234.5", "x" * 120, "\ufeff", "ไทย", "हिन्दी", "שָׁלוֹם", "\u202eabc", "O'Neil",
)  # fmt: skip
BLANKS = (" ", " ", " ", " ", "", "\n", "\r\n", "\t", "  ", "\u00a0", "\u3000", ", ", ". ", "-", "\x07")


@pytest.fixture(autouse=True)
def one_thread():
    """So small a network is slowed down by more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def demo_texts():
    lines = (Path(worker.demo.__file__).parent / "messages.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def odd_texts(count, seed=0):
    """Words of the demo among surfaces that tokenizers and normalizers are tried by."""
    chance = random.Random(seed)
    words = [word for text in demo_texts() for word in text.split()]
    for _ in range(count):
        parts = [
            part
            for _ in range(chance.randint(1, 14))
            for part in (chance.choice(SURFACES if chance.random() < 0.45 else words), chance.choice(BLANKS))
        ]
        yield "".join(parts)


def sentences():
    """Of the folder that the environment names."""
    for path in sorted(Path(os.environ["WNUT17_FOLDER"]).glob("*.jsonl")):
        yield from (" ".join(json.loads(line)["tokens"]) for line in path.read_text("utf-8").splitlines())


def minilm():
    return Tokenizer.from_str(encoder.minilm().tokenizer.decode())


def cased():
    """WordPiece that keeps case and accents, its prefix not the usual one."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", continuing_subword_prefix="@@"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="@@")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=600, special_tokens=special, continuing_subword_prefix="@@")
    trainer.show_progress = False
    return trained(tokenizer, trainer, "[CLS] $A [SEP]")


def byte_level():
    """As RoBERTa's, but with few merges, so that one character may be several tokens."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<s>", "</s>", "<unk>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    return trained(tokenizer, trainer, "<s> $A </s>")


def sentence_piece():
    """As XLM-RoBERTa's: NFKC, pieces that begin with a mark for the blank, and an unknown token by its id."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=500, special_tokens=["<s>", "</s>", "<unk>", "<pad>"], unk_token="<unk>", show_progress=False
    )
    return trained(tokenizer, trainer, "<s> $A </s>")


def trained(tokenizer, trainer, template):
    tokenizer.train_from_iterator([*demo_texts()[:150], "Zoë ½ 東京 ﬁ"], trainer)
    special = [(name, tokenizer.token_to_id(name)) for name in (template.split()[0], template.split()[2])]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    return tokenizer


def pipeline_of(tokenizer, labels, kind="bert", seed=0):
    """The real pipeline over a small encoder with weights that make it say all labels, `O` most of the time."""
    torch.manual_seed(seed)
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    if kind == "distilbert":
        sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    config = (transformers.BertConfig if kind == "bert" else transformers.DistilBertConfig)(
        vocab_size=tokenizer.get_vocab_size(),
        max_position_embeddings=MOST_TOKENS,
        initializer_range=0.4,
        **sizes,
        **names,
    )
    model = transformers.AutoModelForTokenClassification.from_config(config)
    with torch.no_grad():
        model.classifier.bias[labels.index("O")] += 1.5
    unknown = tokenizer.model.unk_token if hasattr(tokenizer.model, "unk_token") else "<unk>"
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=unknown, model_max_length=MOST_TOKENS
    )
    return transformers.pipeline("token-classification", model=model.eval(), tokenizer=wrapped, device="cpu")


def expected_and_found(pipe, tokenizer, groupers, text):
    """Per strategy the pipeline's entities, and ours from its logits.

    The network runs once a text; all that the pipeline makes of its output, it does itself.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outputs = [pipe.forward(inputs) for inputs in pipe.preprocess(text, is_split_into_words=False)]
        expected = {s: pipe.postprocess(outputs, transformers.pipelines.AggregationStrategy(s)) for s in STRATEGIES}
    logits = outputs[0]["logits"][0].numpy()
    tokenizer.no_padding()
    tokenizer.enable_truncation(MOST_TOKENS)
    encoding = tokenizer.encode_batch([text])[0]
    tokens = [tokenizer.id_to_token(number) for number in encoding.ids]
    spans = TokenSpans(tokens, encoding.offsets, encoding.word_ids, encoding.special_tokens_mask)
    for strategy, group in groupers.items():
        yield expected[strategy], group(softmax(logits), spans, text)


def compare(tokenizer, labels, texts, kind="bert", seed=0):
    """How many entities there were, and the largest difference of a score; all else must be equal."""
    pipe = pipeline_of(tokenizer, labels, kind, seed)
    groupers = {s: EntityGrouper.for_tokenizer(tokenizer, labels, s) for s in STRATEGIES}
    count, largest = 0, 0.0
    for text in texts:
        for expected, found in expected_and_found(pipe, tokenizer, groupers, text):
            wanted = [
                (e.get("entity_group", e.get("entity")), e["word"], e["start"], e["end"], float(e["score"]))
                for e in expected
            ]
            assert [(e.entity_group, e.word, e.start, e.end) for e in found] == [w[:-1] for w in wanted], text
            largest = max([largest, *(abs(e.score - w[-1]) for e, w in zip(found, wanted, strict=True))])
            count += len(wanted)
    return count, largest


@pytest.mark.parametrize(
    ("scheme", "kind"), [("IOB2", "bert"), ("IOB1", "bert"), ("plain", "bert"), ("IOB2", "distilbert")]
)
def test_entities_are_those_of_the_pipeline(scheme, kind):
    """WordPiece without case and accents, each scheme of tags."""
    texts = [*demo_texts()[:120], *odd_texts(200, seed=1)]
    count, largest = compare(minilm(), LABELS[scheme], texts, kind)
    assert count > 2000
    assert largest <= 1e-6


@pytest.mark.parametrize("make", [cased, byte_level, sentence_piece])
def test_entities_are_those_of_the_pipeline_with_other_tokenizers(make):
    """What begins a word, what is unknown and how tokens are decoded is the tokenizer's."""
    texts = [*demo_texts()[:100], *odd_texts(200, seed=2)]
    count, largest = compare(make(), LABELS["IOB2"], texts)
    assert count > 2000
    assert largest <= 1e-6


def test_the_whole_pipeline_agrees():
    """Called as users call it, once per strategy, from text to entities."""
    tokenizer, labels = minilm(), LABELS["IOB2"]
    pipe = pipeline_of(tokenizer, labels)
    groupers = {s: EntityGrouper.for_tokenizer(tokenizer, labels, s) for s in STRATEGIES}
    for text in islice(odd_texts(1000, seed=3), 20):
        for strategy, (_, found) in zip(STRATEGIES, expected_and_found(pipe, tokenizer, groupers, text), strict=True):
            said = pipe(text, aggregation_strategy=strategy)
            assert [(e["word"], e["start"], e["end"]) for e in said] == [(e.word, e.start, e.end) for e in found]


@pytest.mark.skipif("WNUT17_FOLDER" not in os.environ, reason="WNUT17_FOLDER names no folder")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("scheme", LABELS)
def test_entities_in_tweets_are_those_of_the_pipeline(scheme):
    count, largest = compare(minilm(), LABELS[scheme], sentences(), seed=4)
    assert count > 0
    assert largest <= 1e-6
