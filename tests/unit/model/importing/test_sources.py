"""Where a model is looked for: here first, then on the hub, of which nothing but numbers and words is fetched."""

from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from tests.unit.model import checkpoints
from worker.errors import BundleError, ConfigError
from worker.model.importing import sources


def test_folder_and_files_in_it(tmp_path):
    folder = checkpoints.write(tmp_path / "m")
    (folder / "some.onnx").write_bytes(b"graph")
    assert sources.locate(str(folder)) == (folder, None)
    assert sources.locate(str(folder), "some.onnx") == (folder, "some.onnx")
    assert sources.locate(str(folder / "model.safetensors")) == (folder, None)
    assert sources.locate(str(folder / "some.onnx")) == (folder, "some.onnx")
    with pytest.raises(BundleError, match=r"vocab\.txt is no model"):
        sources.locate(str(folder / "vocab.txt"))


def test_pickle_named_as_the_source_is_refused(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"\x80")
    with pytest.raises(BundleError, match="is a pickle, a program that runs when it is read"):
        sources.locate(str(tmp_path / "model.bin"))


@pytest.mark.parametrize("source", ["no/such/folder", "./nothing", "/nowhere", "model.onnx", ""])
def test_what_is_neither_folder_nor_name_is_refused(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    if source == "":
        assert sources.locate(source)[0] == Path()
        return
    with pytest.raises(ConfigError, match="is neither a folder nor the name of a model on the hub"):
        sources.locate(source)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub with one model: set `files` or `error`, read `asked`."""

    class Hub:
        files = ("config.json", "model.safetensors", "pytorch_model.bin", "onnx/model.onnx", "onnx/model.onnx_data")
        error = None
        asked = None

    def model_info(api, name, timeout):
        assert timeout <= 10
        if Hub.error is not None:
            raise Hub.error
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=file) for file in Hub.files])

    def snapshot(name, allow_patterns):
        Hub.asked = allow_patterns
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    return Hub


def test_weights_are_fetched_and_pickles_are_not(hub, tmp_path):
    assert sources.locate("someone/some-model") == (tmp_path, None)
    assert hub.asked == ["*.json", "*.txt", "README.md", "model.safetensors"]


def test_graphs_are_fetched_where_there_are_no_weights_or_one_is_named(hub):
    for files, named in ((hub.files, "onnx/model.onnx"), (hub.files[3:], None)):
        hub.files = files
        sources.locate("someone/some-model", named)
        assert hub.asked[3:] == ["onnx/model.onnx", "onnx/model.onnx_data"]


def test_the_exact_graph_is_fetched_to_be_rebuilt(hub):
    """Though there are weights; and before anything is fetched it is known whether there is one."""
    hub.files = (*hub.files, "onnx/model_quantized.onnx")
    sources.locate("someone/some-model", rebuild=True)
    assert hub.asked[3:] == ["onnx/model.onnx", "onnx/model.onnx_data"]
    hub.files, hub.asked = ("config.json", "model.safetensors"), None
    with pytest.raises(ConfigError, match="and someone/some-model has safetensors without one: leave it out"):
        sources.locate("someone/some-model", rebuild=True)
    assert hub.asked is None


EXPORTS = [f"onnx/model{kind}.onnx" for kind in ("", "_fp16", "_int8", "_q4", "_quantized")]


@pytest.mark.parametrize(
    ("files", "named", "fetched"),
    [
        (
            [*EXPORTS, "onnx/model.onnx_data"],
            "onnx/model_q4.onnx",
            ["onnx/model_q4.onnx", *EXPORTS[:1], "onnx/model.onnx_data"],
        ),
        (["model.safetensors", *EXPORTS], "onnx/model_int8.onnx", ["onnx/model_int8.onnx", "onnx/model.onnx"]),
        (["model.onnx", *EXPORTS], "onnx/model_int8.onnx", ["onnx/model_int8.onnx", "model.onnx"]),
        (["model.onnx", *EXPORTS], "onnx/model.onnx", ["onnx/model.onnx"]),
        (EXPORTS[1:], "onnx/model_int8.onnx", ["onnx/model_int8.onnx"]),
        (EXPORTS, "elsewhere.onnx", ["elsewhere.onnx", "onnx/model.onnx"]),
        (EXPORTS, None, ["onnx/model_quantized.onnx", "onnx/model.onnx"]),
        (["a_onnx"], None, ["a_onnx"]),
    ],
)
def test_the_graph_that_is_served_is_fetched_and_its_exact_form(hub, files, named, fetched):
    """What the gate compares with, where there is one; none of the others."""
    hub.files = files
    sources.locate("someone/some-model", named)
    assert hub.asked[3:] == fetched


def test_repository_with_several_graphs_is_refused_before_anything_is_fetched(hub):
    hub.files = ["config.json", "a.onnx", "b.onnx"]
    with pytest.raises(BundleError, match=r"some-model has several graphs \(a\.onnx, b\.onnx\): .* --onnx-file"):
        sources.locate("someone/some-model")
    assert hub.asked is None


def test_name_that_no_system_can_look_up_is_a_sentence():
    with pytest.raises(ConfigError, match=r"cannot be looked at \(File name too long\): name a folder"):
        sources.locate("a" * 300)


def test_repository_of_pickles_is_refused_before_anything_is_fetched(hub):
    hub.files = ("config.json", "pytorch_model.bin")
    with pytest.raises(BundleError, match=r"pytorch_model\.bin is a pickle.*AutoModelForSequenceClassification"):
        sources.locate("someone/some-model")
    assert hub.asked is None


def _http(kind):
    import httpx2

    return kind("no", response=httpx2.Response(404, request=httpx2.Request("GET", "https://hub.test")))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError("no route"), r"the hub cannot be asked for it \(OSError\): download the model elsewhere"),
        (lambda: _http(RepositoryNotFoundError), "the hub knows no model of that name"),
        (lambda: _http(GatedRepoError), "only to those it knows"),
    ],
)
def test_hub_that_does_not_give_the_model_is_a_sentence(hub, error, message):
    hub.error = error if isinstance(error, Exception) else error()
    with pytest.raises(ConfigError, match=message):
        sources.locate("someone/some-model")


def test_hub_out_of_reach_is_said_at_once(monkeypatch, caplog):
    """Nothing is asked twice."""
    import httpx2

    asked = []

    def nobody(request):
        asked.append(request.url)
        raise httpx2.ConnectError("no route")

    huggingface_hub.set_client_factory(lambda: httpx2.Client(transport=httpx2.MockTransport(nobody)))
    try:
        with pytest.raises(ConfigError, match=r"cannot be asked for it \(ConnectError\)"):
            sources.locate("someone/some-model")
    finally:
        from huggingface_hub.utils._http import default_client_factory

        huggingface_hub.set_client_factory(default_client_factory)
    assert len(asked) == len(set(asked))
    assert not caplog.records
