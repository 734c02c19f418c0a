"""Following a log: what a sink that fails does to the others, and what flags are refused."""

from __future__ import annotations

import threading

import pytest

from raysearch.errors import InputError
from raysearch.reporting.tracking import follow as following
from raysearch.reporting.tracking.follow import follow, show_now
from raysearch.reporting.tracking.process import check_tracking, tracked
from tests.reporting.events import LOG
from tests.reporting.tracking.written import written_run


class Shelf:
    """A sink that keeps what it is shown, or breaks."""

    later = "shelve it later"

    def __init__(self, label: str, breaks: bool = False) -> None:
        self.label, self.breaks = label, breaks
        self.rows: dict[str, list[int]] = {}
        self.asked = 0

    def show(self, story) -> None:
        self.asked += 1
        if self.breaks:
            raise ConnectionError("nobody there\nat all")
        self.rows[story.name] = sorted(story.rows)

    def close(self, stories) -> str:
        for story in stories.all.values():
            self.show(story)
        return "all there"


def test_all_sinks_have_all_at_the_end_and_one_that_breaks_is_told_of_once(tmp_path):
    run, over = written_run(tmp_path / "run", LOG[:12], ended=False), threading.Event()
    broken, sound, said = Shelf("broken", breaks=True), Shelf("sound"), list[str]()
    thread = threading.Thread(target=follow, args=(run, [broken, sound], over, said.append, 0.01))
    thread.start()
    for event in LOG[12:]:
        run.append(event)
    over.set()
    thread.join()
    assert sound.rows["t0001"] == [1, 2, 3, 4]
    assert sound.rows["t0000"] == [1, 2]
    assert said == [
        "broken failed (nobody there); the search does not need it. Later: shelve it later",
        "sound: all there",
    ]
    assert broken.asked == 1, "left alone for a while, not asked with every event"


def test_what_failed_is_tried_again_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(following, "_RETRY_SECONDS", 0.0)
    run, over, said = written_run(tmp_path / "run", LOG[:12], ended=False), threading.Event(), list[str]()
    shelf = Shelf("shelf", breaks=True)
    thread = threading.Thread(target=follow, args=(run, [shelf], over, said.append, 0.01))
    thread.start()
    while not said:
        over.wait(0.01)
    shelf.breaks = False
    run.append(*LOG[12:])
    over.set()
    thread.join()
    assert said[1:] == ["shelf: all there"]
    assert shelf.rows["t0001"] == [1, 2, 3, 4]


def test_an_upload_that_fails_says_so(tmp_path):
    said: list[str] = []
    assert not show_now(written_run(tmp_path / "run"), Shelf("shelf", breaks=True), said.append)
    assert said == ["shelf failed (nobody there); the search does not need it. Later: shelve it later"]


def test_without_a_wish_there_is_no_process(tmp_path):
    run = written_run(tmp_path / "run")
    with tracked(run, pytest.fail):
        pass
    assert not (run.folder / "tracking.log").exists()


def test_a_process_that_crashes_is_told_of_and_nothing_else_happens(tmp_path):
    run, said = written_run(tmp_path / "run", tensorboard=True), list[str]()
    with tracked(run, said.append):
        (run.folder / "run.json").write_text("not JSON")
    (line,) = said
    assert "Showing the search has failed" in line
    assert "run.json" in (run.folder / "tracking.log").read_text()


@pytest.mark.parametrize(
    ("project", "mode", "says"),
    [
        (None, "offline", "--wandb-mode offline: needs --wandb PROJECT"),
        ("my flowers", None, "--wandb my flowers: a project is PROJECT or ENTITY/PROJECT"),
        ("me/my/flowers", None, "--wandb me/my/flowers"),
        ("flowers?", "offline", "--wandb flowers?"),
        ("", None, "--wandb : a project is"),
    ],
)
def test_flags_that_cannot_be_used_are_refused(project, mode, says):
    with pytest.raises(InputError) as caught:
        check_tracking(project, mode)
    assert says in str(caught.value)


@pytest.mark.parametrize(("project", "mode"), [(None, None), ("flowers", None), ("me/flowers-2.0", "offline")])
def test_flags_that_can_be_used_are_let_through(project, mode):
    check_tracking(project, mode)
