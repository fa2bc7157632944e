"""Tiny encoders on one thread; without the extra `train` there is nothing here to test."""

import pytest


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Networks as small as these take longer on several cores."""
    torch = pytest.importorskip("torch", reason="needs the extra [train]")
    from worker.model.training import run

    monkeypatch.setattr(run, "usable_cores", lambda: 1)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def encoders(tmp_path_factory):
    """Folders of tiny encoders by family."""
    from tests.unit.model.training import tiny

    return {family: tiny.save_encoder(family, tmp_path_factory.mktemp(family)) for family in tiny.FAMILIES}
