"""Labelled texts: files to examples, and examples to splits. Needs nothing but the standard library and orjson.

Read are, by what the file looks like:

    JSON lines     {"text", "label"} | {"text", "labels": […]} | {"tokens": […], "tags": […]} | {"text"}, and an "id"
    CSV, TSV       a header with a column `text`, and `label` or `labels`, `id`
    anything else  a text a line, without labels

What holds several labels is a list, or words parted by `|`: in a field that is called `labels`, and in any field where
the task is `multi-label`.

A label may be a word, a number or a truth value; it is a word from here on. Mistakes name the file and the line, never
what the line says.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeGuard

import orjson

from worker.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Form: TypeAlias = Literal["plain", "single-label", "multi-label", "token"]
OUTSIDE = "O"
PARTED_BY = "|"
_LARGEST_FIELD = 1 << 26
_SHOWN = 20
_NAME = re.compile(r"[^\W\d][\w.-]{0,39}")
"""What is told of fields is their names, and not the first line of a file without a header."""
_JSON, _CSV, _TSV, _TEXT = {".jsonl", ".ndjson", ".json"}, ".csv", ".tsv", ".txt"
_WHAT = {
    "plain": "no label",
    "single-label": "one label",
    "multi-label": "a list of labels",
    "token": "tokens and tags",
}


class Example(NamedTuple):
    """One text and what is known of it.

    Attributes:
        id: as the file gives it, else the number of its line.
        text: for token data the tokens, joined by single spaces.
        labels: one for `single-label`, any number for `multi-label`, else none.
        tags: for token data one a token.
        offsets: for token data (start, end) of each token in `text`, in characters.
        form: what kind of file it is from; the same for all examples of a file.
    """

    id: str
    text: str
    labels: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    offsets: tuple[tuple[int, int], ...] = ()
    form: Form = "plain"

    @property
    def tokens(self) -> tuple[str, ...]:
        """For token data the words that the tags belong to."""
        return tuple(self.text[start:end] for start, end in self.offsets)


class Fields(NamedTuple):
    """What the text and the labels are called in a file.

    Where `label` has its default, `labels` is looked for, too, and texts may have neither.
    """

    text: str = "text"
    label: str = "label"
    labels: str = "labels"
    id: str = "id"

    @property
    def chosen(self) -> bool:
        """Whether the labels are in a field that somebody named."""
        return self.label != "label"


class _Wrong(Exception):
    """What is wrong with a line, as a clause that follows its place: "has no text"."""

    def __init__(self, line: int, clause: str) -> None:
        super().__init__(f"line {line}: {clause}")


def read(
    path: Path,
    fields: Fields = Fields(),  # noqa: B008 - a NamedTuple of words does not change
    task: str | None = "auto",
) -> list[Example]:
    """All examples of a file, of one form.

    Args:
        path: of the file.
        fields: what they are called in it.
        task: what the labels are for; `auto` and None: as the file looks.

    Raises:
        ConfigError: the file cannot be read, is empty, or has a line that cannot be used.
    """
    examples: list[Example] = []
    for line, example in _examples(path, fields, task):
        if examples and example.form != examples[0].form:
            raise ConfigError(
                f"{path}, line {line}: has {_WHAT[example.form]}, where the lines before have "
                f"{_WHAT[examples[0].form]}: a file has one kind of line."
            )
        examples.append(example)
    if not examples:
        raise ConfigError(f"{path} has no examples: give a file with a line for each.")
    return examples


def read_labelled(
    path: Path,
    fields: Fields = Fields(),  # noqa: B008 - as above
    task: str | None = "auto",
) -> list[Example]:
    """The same, where texts without labels are a mistake."""
    examples = read(path, fields, task)
    if examples[0].form == "plain":
        raise ConfigError(
            f'{path} has texts without labels: give JSON lines with "text" and "label", "labels" or "tokens" and '
            '"tags", or CSV with a header that names them, or say with --label-field where the labels are.'
        )
    return examples


def parted(examples: Sequence[Example]) -> Sequence[Example]:
    """Examples as `read` gives them for `multi-label`, where it was not known yet that this is the task."""
    if not examples or examples[0].form != "single-label":
        return examples
    words = (_words(example.labels[0]) for example in examples)
    return [
        example._replace(form="multi-label", labels=tuple(dict.fromkeys(each)))
        for example, each in zip(examples, words, strict=True)
    ]


def _words(value: str) -> list[str]:
    return [part.strip() for part in value.split(PARTED_BY) if part.strip()]


def label_names(examples: Sequence[Example]) -> tuple[str, ...]:
    """Every label or tag that occurs: numbers by size, words by the alphabet, the tag `O` first."""
    found = {label for example in examples for label in (*example.labels, *example.tags)}
    by_size = all(name.isascii() and name.isdigit() for name in found)
    return tuple(sorted(found, key=lambda name: (name != OUTSIDE, int(name) if by_size else 0, name)))


def tokens_example(name: str, tokens: Sequence[str], tags: Sequence[str]) -> Example:
    """Words and their tags as a text with offsets."""
    offsets, start = [], 0
    for token in tokens:
        offsets.append((start, start + len(token)))
        start += len(token) + 1
    return Example(name, " ".join(tokens), (), tuple(tags), tuple(offsets), "token")


def split(
    examples: Sequence[Example], share: float, seed: int, *, by_label: bool = True
) -> tuple[list[Example], list[Example]]:
    """What stays, and about `share` of the examples set aside, equally of every label; both in their order.

    Labels that are numbers of a regression are no strata: `by_label` is False then.

    Who is set aside is decided by a hash of the text and the seed: the same texts in another order or on another
    machine give the same split, and equal texts are never on both sides. A label with a single text stays.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for text, stratum in {each.text: _stratum(each) if by_label else "" for each in examples}.items():
        groups[stratum].append(text)
    aside: set[str] = set()
    carried = 0.5
    for stratum in sorted(groups):
        texts = sorted(groups[stratum], key=lambda text: _digest(text, seed))
        wanted = share * len(texts) + carried
        taken = min(int(wanted), len(texts) - 1)
        # What rounding took from one label goes to the next, so that many small labels still give their share.
        carried = min(wanted - taken, 1.0)
        aside.update(texts[:taken])
    return [e for e in examples if e.text not in aside], [e for e in examples if e.text in aside]


def _stratum(example: Example) -> str:
    """Multi-label by the whole set, tokens by whether there is any entity."""
    if example.form == "token":
        return str(any(tag != OUTSIDE for tag in example.tags))
    return "\0".join(sorted(example.labels))


def _digest(text: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{text}".encode("utf-8", "surrogatepass")).digest()


def _examples(path: Path, fields: Fields, task: str | None) -> Iterator[tuple[int, Example]]:
    """Each example with the number of its line."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    is_table = path.suffix.lower() in (_CSV, _TSV)
    rows = _csv_rows(path, content, fields) if is_table else _line_rows(path, content)
    try:
        for line, row in rows:
            yield line, row if isinstance(row, Example) else _example(row, line, fields, task)
    except _Wrong as error:
        raise ConfigError(f"{path}, {error}.") from None


def _line_rows(path: Path, content: bytes) -> Iterator[tuple[int, dict[str, Any] | Example]]:
    content = content.removeprefix(b"\xef\xbb\xbf")
    suffix = path.suffix.lower()
    is_json = suffix in _JSON or (suffix != _TEXT and content.lstrip()[:1] == b"{")
    # Not `splitlines`: a text may hold other characters that end a line.
    for number, raw in enumerate(content.split(b"\n"), 1):
        line = raw.rstrip(b"\r")
        if not line.strip():
            continue
        yield number, _document(line, number) if is_json else Example(str(number), _utf8(line, number))


def _document(line: bytes, number: int) -> dict[str, Any]:
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise _Wrong(number, "is not valid JSON") from None
    if not isinstance(document, dict):
        raise _Wrong(number, "is JSON, but no object")
    return document


def _utf8(line: bytes, number: int) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise _Wrong(number, "is not UTF-8") from None


def _csv_rows(path: Path, content: bytes, fields: Fields) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _Wrong(content[: error.start].count(b"\n") + 1, "is not UTF-8") from None
    csv.field_size_limit(_LARGEST_FIELD)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix.lower() == _TSV else ",")
    try:
        _check_columns(path, list(reader.fieldnames or ()), fields)
        for row in reader:
            if None in row or None in row.values():
                raise _Wrong(reader.line_num, "has another number of fields than the header")
            yield reader.line_num, {key: value for key, value in row.items() if key is not None}
    except csv.Error as error:
        raise _Wrong(reader.line_num, f"is not valid CSV ({error})") from None


def _check_columns(path: Path, columns: Sequence[str], fields: Fields) -> None:
    wanted = {"--text-field": fields.text} | ({"--label-field": fields.label} if fields.chosen else {})
    for option, name in wanted.items():
        if columns and name not in columns:
            raise ConfigError(
                f'{path} has no column "{name}" (it has {_named(columns)}): rename one, or name it with {option}.'
            )


def _named(fields: Sequence[str]) -> str:
    """Which fields there are; those that do not look like names are counted."""
    names = [name for name in fields if _NAME.fullmatch(name)][:_SHOWN]
    others = len(fields) - len(names)
    if not names:
        return f"{others}, none of which looks like a name" if others else "none"
    return ", ".join(names) + (f" and {others} more" if others else "")


def _example(row: dict[str, Any], line: int, fields: Fields, task: str | None) -> Example:
    name = row.get(fields.id)
    if name is not None and (isinstance(name, bool) or not isinstance(name, str | int)):
        raise _Wrong(line, f'"{fields.id}" is neither a word nor a number')
    name = str(line) if name in (None, "") else str(name)
    if "tokens" in row and fields.text not in row:
        return _token_example(row, name, line)
    text = row.get(fields.text)
    if not isinstance(text, str):
        raise _Wrong(line, f'has no "{fields.text}" that is a text, nor "tokens" (it has {_named(list(row))})')
    if fields.label in row:
        return _labelled(name, text, fields, row[fields.label], line, task)
    if fields.chosen:
        raise _Wrong(line, f'has no "{fields.label}" (it has {_named(list(row))})')
    if fields.labels in row:
        return Example(name, text, _labels(row[fields.labels], line), form="multi-label")
    return Example(name, text)


def _labelled(name: str, text: str, fields: Fields, value: Any, line: int, task: str | None) -> Example:
    """By the task, where it is known, and else by what the field is called; a list is one in any case."""
    several = task == "multi-label" or (task in ("auto", None) and fields.label == fields.labels)
    if isinstance(value, list) or (several and isinstance(value, str)):
        return Example(name, text, _labels(value, line), form="multi-label")
    return Example(name, text, (_label(value, line),), form="multi-label" if several else "single-label")


def _token_example(row: dict[str, Any], name: str, line: int) -> Example:
    tokens, tags = row["tokens"], row.get("tags")
    if not (_are_words(tokens) and _are_words(tags)):
        raise _Wrong(line, '"tokens" and "tags" are not two lists of words')
    if len(tokens) != len(tags):
        raise _Wrong(line, f"has {len(tokens)} tokens and {len(tags)} tags")
    if not tokens:
        raise _Wrong(line, "has no tokens")
    return tokens_example(name, tokens, tags)


def _are_words(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _label(value: Any, line: int) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value == "":
        raise _Wrong(line, "has an empty label, as a text may only where it may have several (--task multi-label)")
    if not isinstance(value, str | int | float):
        raise _Wrong(line, "has a label that is neither a word nor a number")
    return str(value)


def _labels(value: Any, line: int) -> tuple[str, ...]:
    """A list, or words parted by `|`."""
    if isinstance(value, str):
        value = _words(value)
    if not isinstance(value, list):
        raise _Wrong(line, "has labels that are no list")
    return tuple(dict.fromkeys(_label(each, line) for each in value))
