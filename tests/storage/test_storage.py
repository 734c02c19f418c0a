"""Storage, sync and what is brought back, on a file:// folder: the same code as on S3, without a server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysearch.data.pixels import load
from raysearch.data.shared import bring_images, put_images
from raysearch.errors import InputError, StorageError
from raysearch.recipe import Recipe, Stage
from raysearch.record.fetch import bring, copy_to_read
from raysearch.record.sync import RunSync
from raysearch.run import Run
from raysearch.search.messages import Pack, PackHead, Segment
from raysearch.storage.remote import Storage
from raysearch.workers.scratch import Scratch
from tests.trained import write_pictures


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage((tmp_path / "there").as_uri(), patience_seconds=0.0)


@pytest.fixture
def run(tmp_path, storage) -> Run:
    run = Run.create(tmp_path / "results" / "one", {"storage": storage.uri})
    run.storage = storage / "one"
    return run


def a_file(folder: Path, content: bytes, name: str = "file") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


@given(st.lists(st.tuples(st.sampled_from(["a", "b/c", "b/d/e"]), st.binary(max_size=64)), max_size=8))
def test_what_was_put_last_is_what_is_there(tmp_path_factory, puts):
    here = tmp_path_factory.mktemp("storage")
    storage = Storage(f"{(here / 'there').as_uri()}/") / "run"
    kept: dict[str, bytes] = {}
    for name, content in puts:
        storage.put(a_file(here, content), name)
        kept[name] = content
    assert {name: entry.bytes for name, entry in storage.files().items()} == {n: len(c) for n, c in kept.items()}
    for name, content in kept.items():
        storage.get(name, here / "back")
        assert (here / "back").read_bytes() == content
        assert storage.exists(name)
    storage.delete("b")
    storage.delete("b")  # nothing is there any more
    assert set(storage.files()) == kept.keys() & {"a"}
    assert not storage.exists("b/c")


def test_what_is_not_there_leaves_what_is_here(storage, tmp_path):
    here = a_file(tmp_path, b"mine")
    with pytest.raises(FileNotFoundError):
        storage.get("nothing", here)
    assert here.read_bytes() == b"mine"
    assert storage.files() == {}


def test_a_name_may_have_spaces(tmp_path):
    run = Storage((tmp_path / "my searches").as_uri()) / "run 1" / "checkpoints"
    run.put(a_file(tmp_path, b"content"), "t0000/last.pt")
    assert (tmp_path / "my searches" / "run 1" / "checkpoints" / "t0000" / "last.pt").read_bytes() == b"content"
    again = Storage(run.parent.uri)
    assert again.name == "run 1"
    assert list(again.files()) == ["checkpoints/t0000/last.pt"]


def test_another_file_system_is_reached_by_its_fsspec_name(tmp_path):
    storage = Storage("memory://bucket/prefix")
    storage.put(a_file(tmp_path, b"content"), "run/log")
    assert list((storage / "run").files()) == ["log"]
    assert (storage / "run").parent.uri == "memory://bucket/prefix"
    storage.check()
    assert list(storage.files()) == ["run/log"], "a check leaves nothing"


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("nosuch://bucket/prefix", "cannot be opened"),
        ("bucket/prefix", "not a URI"),
        ("s3://", "not a URI"),
        ("s3://bucket/prefix?endpoint=x", "Unexpected query parameter"),
        ("s3://AKIA:hush@bucket/prefix", "credentials do not belong"),
        ("s3://bucket/prefix?secret_key=hush", "credentials do not belong"),
    ],
)
def test_a_uri_that_will_not_do_is_refused_and_a_secret_in_it_not_repeated(uri, says):
    with pytest.raises(InputError, match=says) as caught:
        Storage(uri)
    assert "hush" not in str(caught.value)


def test_a_storage_that_refuses_for_a_while_is_waited_for(storage, tmp_path, caplog):
    storage.patience_seconds = 30.0
    shut = a_file(tmp_path, b"", "there")  # a file where the folder should be
    opening = threading.Timer(0.7, shut.unlink)
    opening.start()
    storage.put(a_file(tmp_path, b"content"), "log")
    assert list(storage.files()) == ["log"]
    assert "could not write log" in caplog.text
    seconds, reason = storage.take_refusal()
    assert seconds > 0.5
    assert "there" in reason
    assert storage.take_refusal() is None


def test_a_storage_that_refuses_too_long_is_an_error_that_says_what_and_why(storage, tmp_path):
    a_file(tmp_path, b"", "there")
    with pytest.raises(StorageError, match="could not write log for 0 s"):
        storage.put(a_file(tmp_path, b""), "log")
    with pytest.raises(InputError, match="cannot be written"):
        storage.check()


def test_decoded_images_are_put_once_and_brought_where_they_are_missing(storage, tmp_path, monkeypatch):
    images = load(str(write_pictures(tmp_path / "photos", 10)), image_size=16, progress=False)
    put_images(storage, images.folder)
    before = storage.files()
    put_images(storage, images.folder)
    assert storage.files() == before
    assert bring_images(storage, images.folder) == images.folder, "here already"
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "another machine"))
    elsewhere = bring_images(storage, tmp_path / "not here" / images.folder.name)
    assert elsewhere.is_relative_to(tmp_path / "another machine")
    assert {path.name: path.read_bytes() for path in elsewhere.iterdir()} == {
        path.name: path.read_bytes() for path in images.folder.iterdir()
    }
    with pytest.raises(FileNotFoundError):
        bring_images(storage, tmp_path / "of another source")


def test_images_are_there_when_the_file_that_says_so_is(storage, tmp_path, monkeypatch):
    folder, put = tmp_path / "images", []
    for name in ("dataset.json", "train.npy", "val.npy"):
        a_file(folder, b"", name)
    monkeypatch.setattr(Storage, "put", lambda self, path, name: put.append(name))
    put_images(storage, folder)
    assert put == ["train.npy", "val.npy", "dataset.json"]


RECIPE = Recipe(backbone="simple_cnn", image_size=16, schedule=(Stage(depth=0, epochs=2),))


def segment(trial: str, parent: str | None = None) -> Segment:
    return Segment(f"{trial}.1", trial, RECIPE, 0, 0, 2, parent, ended_rate=None)


@pytest.fixture
def scratches(storage) -> Iterator[tuple[Scratch, Scratch]]:
    """Of two workers of one run."""
    with closing(Scratch(storage)) as one, closing(Scratch(storage)) as other:
        yield one, other


def test_a_worker_finds_what_another_left(scratches):
    one, other = scratches
    a_file(one.folder / "h0001", b"head", "best.safetensors")
    one.put()
    one.bring(segment("t0000", parent="h0001"))
    assert (one.folder / "h0001" / "best.safetensors").read_bytes() == b"head"
    for epoch in (b"1", b"2"):
        (one.folder / "t0000").mkdir(exist_ok=True)
        for name in ("best.safetensors", "last.pt"):
            (one.folder / "t0000" / name).unlink(missing_ok=True)
            a_file(one.folder / "t0000", epoch, name)
        one.put()
        other.bring(segment("t0000"))
        assert {path.name: path.read_bytes() for path in (other.folder / "t0000").iterdir()} == {
            "best.safetensors": epoch,
            "last.pt": epoch,
        }
    other.bring(Pack((PackHead("h0007", RECIPE),)))
    assert list(other.folder.iterdir()) == [], "a worker's disk does not fill up"


def test_only_what_was_written_since_is_put_and_the_best_first(scratches, monkeypatch):
    scratch, put = scratches[0], []
    monkeypatch.setattr(Storage, "put", lambda self, path, name: put.append(name))
    for name in ("last.pt", "best.safetensors"):
        a_file(scratch.folder / "t0000", b"", name)
    scratch.put()
    scratch.put()
    assert put == ["t0000/best.safetensors", "t0000/last.pt"]
    (scratch.folder / "t0000" / "last.pt").unlink()
    a_file(scratch.folder / "t0000", b"2", "last.pt")
    scratch.put()
    assert put[2:] == ["t0000/last.pt"]


def test_the_run_folder_is_copied_at_the_beginning_in_between_and_at_the_end(run, storage):
    said: list[str] = []
    with RunSync(run, said.append, every_seconds=0.05):
        assert set(storage.files()) == {"one/run.json"}
        run.append({"event": "budget"})
        end = time.monotonic() + 30
        while not storage.exists("one/log.jsonl"):
            assert time.monotonic() < end
            time.sleep(0.02)
        a_file(run.folder / "best", b"weights", "model.safetensors")
        a_file(run.folder, b"half", ".being-written.csv")
        a_file(run.folder / "checkpoints" / "t0000", b"a worker's business", "last.pt")
    assert set(storage.files()) == {"one/run.json", "one/log.jsonl", "one/best/model.safetensors"}
    assert said == []


def test_a_checkpoint_is_deleted_after_the_log_that_says_why(run, storage, tmp_path, monkeypatch):
    for name in ("t0000/best.safetensors", "t0000/last.pt", "t0001/last.pt", "refit-t0000-1/best.safetensors"):
        (storage / "one" / "checkpoints").put(a_file(tmp_path, b""), name)
    with RunSync(run, pytest.fail, every_seconds=3600) as sync:
        assert sync.trials == {"t0000", "t0001", "refit-t0000-1"}
        run.append({"event": "dropped", "trial": "t0001"})
        sync.forget("t0000/last.pt")
        sync.forget("t0001")
        assert (storage / "one").exists("checkpoints/t0001/last.pt"), "not yet"
        sync.copy()
        assert b"dropped" in (tmp_path / "there" / "one" / "log.jsonl").read_bytes()
        kept = {"t0000/best.safetensors", "refit-t0000-1/best.safetensors"}
        assert set((storage / "one" / "checkpoints").files()) == kept
        assert "t0001" not in sync.trials


def test_what_is_wanted_again_is_not_deleted(run, storage, tmp_path):
    """A pack of heads that was lost is trained again: its tensors come again, and go again."""
    with RunSync(run, pytest.fail, every_seconds=3600) as sync:
        for last in (False, True):
            sync.forget("h0003")
            sync.keep(["h0003"])
            (storage / "one" / "checkpoints").put(a_file(tmp_path, b""), "h0003/best.safetensors")
            sync.copy()
            assert (storage / "one").exists("checkpoints/h0003/best.safetensors")
            if last:
                sync.forget("h0003")
                sync.copy()
                assert not (storage / "one").exists("checkpoints/h0003/best.safetensors")


def test_a_sync_that_fails_at_the_end_says_what_is_missing(run, tmp_path):
    said: list[str] = []
    with RunSync(run, said.append, every_seconds=3600):
        run.append({"event": "budget"})
        (tmp_path / "there").rename(tmp_path / "away")
        shut = a_file(tmp_path, b"", "there")
    (problem,) = said
    assert "Not there: log.jsonl. All of it is in" in problem
    assert run.events()[-1]["event"] == "storage_refused"
    shut.unlink()


def test_a_run_there_is_read_as_it_is_there_at_the_moment(run, storage):
    with RunSync(run, pytest.fail, every_seconds=3600) as sync:
        run.append({"event": "one"})
        a_file(run.folder, b"old", "report.html")
        sync.copy()
        there = Run.open(f"{storage.uri}/one")
        assert there.folder != run.folder
        assert [event["event"] for event in there.events()] == ["one"]
        run.append({"event": "two"})
        (run.folder / "report.html").unlink()
        run.storage.delete("report.html")
        sync.copy()
        assert [event["event"] for event in Run.open(f"{storage.uri}/one").events()] == ["one", "two"]
        assert not (copy_to_read(f"{storage.uri}/one") / "report.html").exists()


def test_a_run_that_is_not_there_is_refused_with_those_that_are(run, storage):
    with RunSync(run, pytest.fail):
        pass
    with pytest.raises(InputError, match=r"it has no run\.json; runs there: one"):
        Run.open(storage.uri)
    with pytest.raises(InputError, match=r"no run at .*/two: it has no run\.json"):
        Run.open(f"{storage.uri}/two")


def test_a_run_is_brought_back_whole_and_never_over_another(run, storage, tmp_path):
    run.append({"event": "one"})
    (storage / "one" / "checkpoints").put(a_file(tmp_path, b"tensors"), "t0000/last.pt")
    with RunSync(run, pytest.fail):
        pass
    uri = f"{storage.uri}/one"
    light = bring(uri, tmp_path / "light", checkpoints=False)
    assert not (light / "checkpoints").exists()
    assert json.loads((light / "run.json").read_text()) == run.info
    whole = bring(uri, tmp_path / "whole", checkpoints=True)
    assert (whole / "checkpoints" / "t0000" / "last.pt").read_bytes() == b"tensors"
    Run.open(whole).append({"event": "two"})
    assert bring(uri, tmp_path / "whole", checkpoints=True) == whole
    assert [event["event"] for event in Run.open(whole).events()] == ["one", "two"], "what is newer here stays"
    other = Run.create(tmp_path / "others" / "one", {})
    other.append({"event": "another"})
    with pytest.raises(InputError, match="is not the run"):
        bring(uri, tmp_path / "others", checkpoints=True)
    assert [event["event"] for event in other.events()] == ["another"]


def test_a_file_of_a_run_is_brought_anew_each_time(run, storage, tmp_path):
    name = "checkpoints/t0000/best.safetensors"
    for content in (b"older", b"newer"):
        (storage / "one").put(a_file(tmp_path, content), name)
        assert run.file(name).read_bytes() == content
    assert not run.file("checkpoints/t0001/best.safetensors").exists()
    assert np.size(sorted(run.folder.rglob(".*"))) == 0
