"""Where a bundle may be written is found out before the work, and never by a traceback."""

import pytest

from tests.unit.model import checkpoints
from tests.unit.model.importing.making import imported, optimum
from worker.errors import BundleError
from worker.model.importing import place


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """Places as somebody may name them, under the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("mine")
    return tmp_path


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("file", "file is a file: name a folder for the bundle"),
        ("file/below", r"to file/below \(Not a directory\): name another folder"),
        ("file/below/deep", r"to file/below/deep \(Not a directory\)"),
        ("dangling", r"to dangling \(File exists\): name another folder, or change what is in the way"),
        ("loop", r"to loop \("),
        ("thesis", r"thesis holds thesis\.txt, which is no part of a bundle"),
        ("", r"\. holds .*, which is no part of a bundle"),
        ("/", "/ holds .*, which is no part of a bundle"),
        ("/dev/null", r"to /dev/null \(File exists\)"),
        ("/proc/bundle", r"to /proc/bundle \("),
        ("a" * 300, r"\(File name too long\)"),
        ("b/" + "a" * 300, r"\(File name too long\)"),
    ],
)
def test_places_that_are_none_are_refused_by_name(odd, out, message):
    before = sorted(odd.rglob("*"))
    with pytest.raises(BundleError, match=message):
        place.check(odd.__class__(out))
    assert sorted(odd.rglob("*")) == before


@pytest.mark.parametrize("out", ["new", "new/and/deep", "empty", "link", "leftover"])
def test_places_that_can_be_written_are_left_as_they_are(odd, out):
    (odd / "empty").mkdir()
    (odd / "link").symlink_to("empty")
    (odd / "leftover" / ".winnow-abc").mkdir(parents=True)
    before = sorted(odd.rglob("*"))
    place.check(odd / out)
    assert sorted(odd.rglob("*")) == before


def test_a_folder_that_may_not_be_changed_is_found_out_by_trying(tmp_path, monkeypatch):
    """Whoever runs as root may write where permissions say no, and nobody may on a read-only disk."""

    def refused(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(place.tempfile, "TemporaryDirectory", refused)
    with pytest.raises(BundleError, match=r"\(Read-only file system\): name another folder, or change what is in the"):
        place.check(tmp_path / "out")


@pytest.mark.parametrize("name", [".", "../m", "link"])
def test_the_folder_of_the_model_is_no_place(tmp_path, name):
    """A graph with the names of a bundle's files would be lost."""
    folder = optimum(tmp_path / "m")
    (tmp_path / "m" / "link").symlink_to(folder)
    before = (folder / "model.onnx").read_bytes()
    with pytest.raises(BundleError, match="is the folder of the model itself: name another folder"):
        imported(folder, folder / name)
    assert (folder / "model.onnx").read_bytes() == before


@pytest.mark.parametrize("name", ["model.onnx", "README.md"])
def test_files_without_a_manifest_are_no_bundle_to_replace(tmp_path, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    with pytest.raises(
        BundleError, match=rf"holds {name}, but no bundle\.json, so it is no bundle that may be replaced"
    ):
        imported(checkpoints.write(tmp_path / "m"), out)
    assert (out / name).read_text() == "mine"


def test_what_the_system_refuses_to_read_is_a_sentence(tmp_path, monkeypatch):
    folder = checkpoints.write(tmp_path / "m")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    read = type(folder).read_text

    def refused(path, *arguments):
        if path.name == "README.md":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *arguments)

    monkeypatch.setattr(type(folder), "read_text", refused)
    with pytest.raises(BundleError, match=r"README\.md cannot be used \(Permission denied\): see to its permissions"):
        imported(folder, tmp_path / "out")
