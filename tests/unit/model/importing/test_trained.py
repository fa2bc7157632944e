"""What an import says of a checkpoint that lies where `winnow train` leaves one."""

import pytest

from tests.unit.model import checkpoints
from tests.unit.model.importing.making import imported

NOTE = "temperature and thresholds, which the training fitted, are not in a checkpoint"


@pytest.fixture
def hf(tmp_path):
    return checkpoints.write(tmp_path / "o/hf")


def said(folder, out):
    return [note for note in imported(folder, out).notes if note.startswith(NOTE)]


def test_what_the_bundle_beside_it_has_is_told(hf, tmp_path):
    imported(hf, tmp_path / "o/bundle", temperature=1.4)
    assert said(hf, tmp_path / "new") == [f"{NOTE}; they are in {tmp_path / 'o/bundle'}"]


def test_without_a_bundle_the_training_itself_tells_it(hf, tmp_path):
    """Where INT8 was refused."""
    assert said(hf, tmp_path / "new") == []
    (tmp_path / "o/checkpoint.pt").write_bytes(b"")
    (note,) = said(hf, tmp_path / "new")
    assert note.endswith("the scores are those of temperature 1, and `winnow threshold` chooses thresholds anew")


@pytest.mark.parametrize("has", [True, False])
def test_where_nothing_is_lost_nothing_is_said(hf, tmp_path, has):
    imported(hf, tmp_path / "o/bundle")
    if not has:
        (tmp_path / "o/bundle/model.onnx").write_bytes(b"junk")
    assert said(hf, tmp_path / "new") == []
