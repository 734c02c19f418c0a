"""Checkpoints are whole or absent, hold data only, and say what they are."""

from __future__ import annotations

import os
import pickle

import pytest
import torch

from raysearch.training.checkpoint import (
    CheckpointError,
    best_metadata,
    load_checkpoint,
    load_tensors,
    save_checkpoint,
    save_tensors,
)
from tests.full_disk import full_disk
from tests.training.tiny import trainer


def test_the_best_tensors_say_what_the_next_stage_must_find(tmp_path):
    training = trainer(signature={"pooling": "avg", "classes": ["cat"]})
    training.run_epoch()
    training.run_epoch()
    path = tmp_path / "t0001" / "best.safetensors"
    save_tensors(path, training.best_state, best_metadata(training))
    tensors, says = load_tensors(path)
    assert says["val_loss"] == training.best["val_loss"]
    assert says["epoch"] == training.best["epoch"]
    assert says["row"] == training.best
    assert says["signature"] == {"pooling": "avg", "classes": ["cat"]}
    assert tensors.keys() == training.best_state.keys()
    assert all(torch.equal(tensors[name], training.best_state[name]) for name in tensors)


def test_equal_tensors_are_stored_once(tmp_path):
    """best_state is the suffix itself after a best epoch; a checkpoint must not hold it twice."""
    training = trainer(metric="loss")
    training.run_epoch()
    state = training.state()
    assert state["best_state"] is state["suffix"]


def test_any_layout_is_saved_with_its_values(tmp_path):
    tensor = torch.arange(2 * 3 * 4 * 4.0).reshape(2, 3, 4, 4).to(memory_format=torch.channels_last)
    save_tensors(tmp_path / "x.safetensors", {"one": tensor, "same": tensor}, {})
    found, says = load_tensors(tmp_path / "x.safetensors")
    assert torch.equal(found["one"], tensor)
    assert torch.equal(found["same"], tensor)
    assert says == {}


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_file_is_named(tmp_path, damage):
    for path, load in ((tmp_path / "last.pt", load_checkpoint), (tmp_path / "b.safetensors", load_tensors)):
        with pytest.raises(CheckpointError, match=f"no checkpoint .*{path.name}"):
            load(path)
        save_checkpoint(path, {"a": torch.zeros(100)}) if path.suffix == ".pt" else save_tensors(
            path, {"a": torch.zeros(100)}, {}
        )
        path.write_bytes(path.read_bytes()[:200] if damage is None else damage)
        with pytest.raises(CheckpointError, match=path.name):
            load(path)


def test_code_is_not_unpickled(tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"a": Payload()}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "last.pt")
    assert not (tmp_path / "ran").exists()


def test_what_breaks_off_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1})

    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_checkpoint(path, {"epoch": 2, "no data": lambda: None})
    assert load_checkpoint(path) == {"epoch": 1}
    save_checkpoint(path, {"epoch": 2})
    assert load_checkpoint(path) == {"epoch": 2}
    assert [found.name for found in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("write", [save_checkpoint, lambda path, tensors: save_tensors(path, tensors, {})])
def test_a_full_disk_is_an_error_of_the_system_and_leaves_the_old_file(tmp_path, write):
    """Not one of torch or safetensors, which looks as if the tensors were to blame."""
    path = tmp_path / "it"
    write(path, {"a": torch.zeros(8)})
    before = path.read_bytes()
    with full_disk(1000), pytest.raises(OSError, match="too large"):
        write(path, {"a": torch.zeros(1000)})
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["it"]
