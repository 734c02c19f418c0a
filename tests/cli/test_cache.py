"""`raysearch cache`, as a person types it."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from raysearch.activations.upkeep import list_entries
from raysearch.cli.main import main
from tests.activations.cached import cached


@pytest.fixture
def filled(tmp_path, monkeypatch):
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "100")
    moving = cached(tmp_path / "activations", 2, strength=0.5, views=2)
    for view in (0, 1):
        moving.batch(np.arange(3), view)
    del moving
    gc.collect()


@pytest.mark.usefixtures("filled")
def test_it_lists_sizes_verifies_and_clears(capsys):
    assert main(["cache"]) == 0
    shown = capsys.readouterr().out
    assert "simple_cnn" in shown
    assert "block2" in shown
    assert "2 files, 0.4 MiB" in shown
    assert main(["cache", "verify"]) == 0
    assert "2 files are whole" in capsys.readouterr().out
    path = list_entries()[0].path
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert main(["cache", "verify"]) == 1
    shown = capsys.readouterr().out
    assert f"{path}: its rows are not those that were written; deleted" in shown
    assert main(["cache", "clear"]) == 0
    assert "1 files, 0.2 MiB deleted" in capsys.readouterr().out
    assert list_entries() == []
    assert main(["cache", "list"]) == 0
    assert "0 files" in capsys.readouterr().out


def test_it_refuses_what_it_does_not_know(capsys):
    assert main(["cache", "burn"]) == 2
    assert "burn" in capsys.readouterr().err
