"""Labelled files to examples, and examples to splits."""

import pytest

from worker.errors import ConfigError
from worker.model.data import Example, Fields, label_names, parted, read, read_labelled, split


def written(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path


def test_json_lines_with_one_label(tmp_path):
    path = written(
        tmp_path, "a.jsonl", '{"text": "x", "label": "ham"}\n\n{"id": 7, "text": "y\u2028z", "label": 1}\r\n'
    )
    assert read(path) == [
        Example("1", "x", ("ham",), form="single-label"),
        Example("7", "y\u2028z", ("1",), form="single-label"),
    ]


def test_json_lines_with_several_labels_and_none(tmp_path):
    path = written(
        tmp_path, "a.jsonl", '{"text": "x", "labels": ["b", "a", "b"]}\n{"text": "y", "labels": [], "id": "z"}\n'
    )
    assert [(e.id, e.labels, e.form) for e in read(path)] == [
        ("1", ("b", "a"), "multi-label"),
        ("z", (), "multi-label"),
    ]


def test_tokens_become_a_text_with_offsets(tmp_path):
    path = written(
        tmp_path, "a.jsonl", '{"tokens": ["Émile", "in", "🙂", "Ulm"], "tags": ["B-per", "O", "O", "B-loc"]}'
    )
    (example,) = read(path)
    assert example.text == "Émile in 🙂 Ulm"
    assert [example.text[start:end] for start, end in example.offsets] == ["Émile", "in", "🙂", "Ulm"]
    assert example.tokens == ("Émile", "in", "🙂", "Ulm")
    assert example.tags == ("B-per", "O", "O", "B-loc")


def test_csv_with_quoted_lines_and_other_names(tmp_path):
    path = written(tmp_path, "a.csv", '\ufeffreview,sentiment,id\n"two\nlines, one text",pos,r1\nbad,neg,\n')
    found = read(path, Fields(text="review", label="sentiment"))
    assert [(e.id, e.text, e.labels) for e in found] == [
        ("r1", "two\nlines, one text", ("pos",)),
        ("4", "bad", ("neg",)),
    ]


def test_tsv_with_several_labels(tmp_path):
    path = written(tmp_path, "a.tsv", "text\tlabels\nx\tcs.AI | cs.LG\ny\t\n")
    assert [e.labels for e in read(path)] == [("cs.AI", "cs.LG"), ()]


TABLE = "title,tags\nx,cs.AI | cs.LG\ny,\n"


@pytest.mark.parametrize("name", ["tags", "labels", "label"])
def test_several_labels_are_parted_in_whatever_field_they_are(tmp_path, name):
    """Where the task is known to be of several labels: in CSV, and in words of JSON."""
    fields = Fields("title", name)
    table = written(tmp_path, "a.csv", TABLE.replace("tags", name))
    assert [(e.labels, e.form) for e in read(table, fields, "multi-label")] == [
        (("cs.AI", "cs.LG"), "multi-label"),
        ((), "multi-label"),
    ]
    lines = written(tmp_path, "a.jsonl", f'{{"title": "x", "{name}": "b|a|b"}}\n{{"title": "y", "{name}": 3}}')
    assert [e.labels for e in read(lines, fields, "multi-label")] == [("b", "a"), ("3",)]


def test_without_a_task_the_name_of_the_field_or_a_list_says_it(tmp_path):
    table = written(tmp_path, "a.csv", TABLE.replace("tags", "labels").replace("y,", "y,c"))
    assert [e.labels for e in read(table, Fields("title", "labels"))] == [("cs.AI", "cs.LG"), ("c",)]
    assert [e.labels for e in read(table, Fields("title", "labels"), "single-label")] == [("cs.AI | cs.LG",), ("c",)]
    lines = written(tmp_path, "a.jsonl", '{"text": "x", "topics": ["b|a", "c"]}')
    assert [(e.labels, e.form) for e in read(lines, Fields(label="topics"))] == [(("b|a", "c"), "multi-label")]


def test_labels_are_parted_later_where_the_task_was_not_known(tmp_path):
    path = written(tmp_path, "a.csv", "text,label\nx,a|b|a\ny,c\n")
    assert parted(read(path)) == read(path, task="multi-label")
    plain = [Example("1", "x")]
    assert parted(plain) == plain


@pytest.mark.parametrize("name", ["labels", "label_id"])
def test_a_missing_column_is_named_with_those_there_are(tmp_path, name):
    table = written(tmp_path, "ml.csv", TABLE)
    with pytest.raises(ConfigError, match=rf'ml\.csv has no column "{name}" \(it has title, tags\): rename one'):
        read_labelled(table, Fields("title", name))
    with pytest.raises(ConfigError, match=r'ml\.csv has no column "text" \(it has title, tags\)'):
        read_labelled(table)
    lines = written(tmp_path, "a.jsonl", '{"text": "x", "tags": "a", "label_id": 1, "labels": []}\n{"text": "secret"}')
    with pytest.raises(ConfigError, match=rf'line 2: has no "{name}" \(it has text\)\.$'):
        read_labelled(lines, Fields(label=name))


def test_a_first_line_without_names_is_not_told(tmp_path):
    path = written(tmp_path, "a.csv", '"a secret, told",see me\nx,y\n')
    with pytest.raises(ConfigError, match=r'no column "text" \(it has 2, none of which looks like a name\)'):
        read(path)


def test_plain_lines(tmp_path):
    path = written(tmp_path, "a.txt", '{"a": 1}\n  two \n\n')
    assert [(e.id, e.text, e.form) for e in read(path)] == [("1", '{"a": 1}', "plain"), ("2", "  two ", "plain")]
    with pytest.raises(ConfigError, match="texts without labels"):
        read_labelled(path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"text": "x", "label": "a"}\n{"text": "secret"', "a.jsonl, line 2: is not valid JSON."),
        ("a.jsonl", '["secret"]', "line 1: is JSON, but no object."),
        ("a.jsonl", '{"label": "secret"}', 'line 1: has no "text" that is a text, nor "tokens" (it has label).'),
        ("a.jsonl", '{"text": "secret", "label": null}', "line 1: has a label that is neither a word nor a number."),
        ("a.csv", "text,label\nsecret,\n", "line 2: has an empty label, as a text may only where it may have several"),
        ("a.jsonl", '{"text": "secret", "labels": 3}', "line 1: has labels that are no list."),
        ("a.jsonl", '{"text": "secret", "label": "a", "id": []}', 'line 1: "id" is neither a word nor a number.'),
        ("a.jsonl", '{"tokens": ["secret", "b"], "tags": ["O"]}', "line 1: has 2 tokens and 1 tags."),
        ("a.jsonl", '{"tokens": ["secret"]}', 'line 1: "tokens" and "tags" are not two lists of words.'),
        ("a.jsonl", '{"tokens": [], "tags": []}', "line 1: has no tokens."),
        (
            "a.jsonl",
            '{"text": "secret", "label": "a"}\n{"text": "secret"}',
            "line 2: has no label, where the lines before",
        ),
        ("a.csv", "text,label\nsecret,a,b\n", "line 2: has another number of fields than the header."),
        ("a.csv", b"text,label\nx,a\nsecret \xff,a\n", "line 3: is not UTF-8."),
        ("a.txt", b"ok\nsecret \xff\n", "line 2: is not UTF-8."),
        ("a.jsonl", "\n", "has no examples"),
    ],
)
def test_mistakes_name_the_line_and_never_the_text(tmp_path, name, content, said):
    with pytest.raises(ConfigError) as caught:
        read(written(tmp_path, name, content))
    assert said in str(caught.value)
    assert name in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_missing_file_is_a_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.jsonl cannot be read: No such file"):
        read(tmp_path / "none.jsonl")


def test_labels_are_in_a_fixed_order():
    def examples(*labels):
        return [Example("", "", (label,)) for label in labels]

    assert label_names(examples("spam", "ham")) == ("ham", "spam")
    assert label_names(examples("10", "9", "1")) == ("1", "9", "10")
    assert label_names([Example("", "", tags=("I-b", "O", "B-a"))]) == ("O", "B-a", "I-b")


def made(labels):
    return [Example(str(i), f"text {i}", (label,), form="single-label") for i, label in enumerate(labels)]


def test_a_split_takes_its_share_of_every_label():
    examples = made(["a"] * 700 + ["b"] * 200 + ["c"] * 100 + ["d"])
    stays, aside = split(examples, 0.1, seed=1)
    counts = {label: sum(e.labels == (label,) for e in aside) for label in "abcd"}
    assert len(stays) + len(aside) == len(examples)
    assert counts["d"] == 0
    assert [abs(counts["a"] - 70) <= 1, abs(counts["b"] - 20) <= 1, abs(counts["c"] - 10) <= 1] == [True] * 3


def test_a_split_depends_on_texts_and_seed_alone():
    examples = made(["a", "b"] * 100)
    aside = {e.text for e in split(examples, 0.2, seed=1)[1]}
    assert {e.text for e in split(examples[::-1], 0.2, seed=1)[1]} == aside
    assert {e.text for e in split(examples, 0.2, seed=2)[1]} != aside


def test_equal_texts_stay_together():
    examples = [Example(str(i), f"text {i % 50}", ("a",), form="single-label") for i in range(200)]
    stays, aside = split(examples, 0.2, seed=1)
    assert aside
    assert not {e.text for e in stays} & {e.text for e in aside}


def test_many_small_labels_give_their_share_together():
    """77 labels of 3 texts each: rounding each by itself would take none."""
    examples = made([f"l{i}" for i in range(77) for _ in range(3)])
    assert 20 <= len(split(examples, 0.1, seed=1)[1]) <= 26
