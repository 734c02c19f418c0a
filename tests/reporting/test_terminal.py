"""What the terminal shows: a live view, plain lines for a pipe, and a summary that can be acted on."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

from rich.console import Console

from raysearch.record.tables import trials_table
from raysearch.reporting.live_view import Leader, LiveView
from raysearch.reporting.measured import plus_minus
from raysearch.reporting.sentences import segment_line, verdict_line
from raysearch.reporting.summary import evaluation_table, summary
from raysearch.run import Run
from tests.reporting.events import LOG, end, row, segment, trial

COUNTS = {"waiting": 3, "running": 2, "stopped": 1, "done": 4, "failed": 0}
BEST = Leader("t0007", "accuracy", 0.6913, {"learning_rate": 0.00051, "depth": 2})


def spread(mean: float, std: float | None = 0.01) -> dict[str, Any]:
    return {"mean": mean, "std": std, "values": [mean] if std is None else [mean - std, mean, mean + std]}


EVALUATION = {
    "trial": "t0001",
    "metric": "accuracy",
    "val": {"accuracy": spread(0.72), "macro_f1": spread(0.71)},
    "test": {"accuracy": spread(0.69), "macro_f1": spread(0.68)},
    "optimism": 0.0123,
    "others": {
        "default": {"trial": "t0000", "test": {"accuracy": spread(0.67), "macro_f1": spread(0.66)}},
        "head": {"trial": "h0000", "test": {"accuracy": spread(0.63, None), "macro_f1": spread(0.62, None)}},
    },
}


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def a_pipe() -> Console:
    return Console(file=io.StringIO(), width=160)


def test_a_pipe_gets_a_line_a_segment_and_one_every_ten_seconds():
    now = [0.0]
    console = a_pipe()
    with LiveView(console, clock=lambda: now[0]) as view:
        for second in range(25):
            now[0] = float(second)
            view.update(COUNTS, BEST, elapsed=second, left=100.0 - second, activity=["t0008: epoch 3 of 4"])
        view.line(segment_line(end("t0007", 1, row(2, 0.6913), 2)))
        view.note("writing everything")
    lines = text_of(console).splitlines()
    assert len(lines) == 3 + 2
    assert "2 running, 1 stopped, 4 done" in lines[1]
    assert "[0:10, 1:30 left]" in lines[1]
    assert "t0007 accuracy 0.6913" in lines[1]
    assert lines[3].startswith("t0007 stopped after epoch 2 (1.5 s): accuracy 0.6913")
    assert lines[4] == "writing everything"
    assert "\x1b" not in text_of(console)


def test_a_terminal_gets_one_view_that_shows_states_recipe_and_time():
    console = Console(file=io.StringIO(), width=160, force_terminal=True, color_system=None)
    with LiveView(console) as view:
        view.update(COUNTS, BEST, elapsed=61, left=None, activity=["t0008: epoch 3 of 4", "t0009: epoch 1 of 2"])
        view.line(segment_line(end("t0007", 1, row(2, 0.6913), 2)))
    shown = text_of(console)
    for piece in ("3 waiting", "2 running", "0 failed", "t0007", "0.6913", "learning_rate=0.00051", "depth=2", "1:01"):
        assert piece in shown
    assert "epoch 1 of 2" in shown
    assert "time left unknown" in shown
    assert "stopped after epoch" not in shown


def test_the_view_ends_when_the_search_breaks_down():
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    view = LiveView(console)
    with contextlib.suppress(KeyboardInterrupt), view:
        view.update(COUNTS, None, 0, None)
        raise KeyboardInterrupt
    hidden, shown = (text_of(console).rfind(f"\x1b[?25{way}") for way in "lh")
    assert 0 <= hidden < shown, "whoever types next sees the cursor"


def test_a_segment_without_figures_is_still_a_sentence():
    assert segment_line(end("t0007", 1, {}, 2, finished=True)) == "t0007 done after epoch 2 (1.5 s): no figures"


def finished_run(tmp_path: Path, events: list) -> Run:
    run = Run.create(tmp_path / "run", {"metric": "accuracy"})
    for event in events:
        run.append(event)
    return run


def test_the_summary_has_the_best_recipes_the_evaluation_and_what_went_wrong(tmp_path):
    run = finished_run(tmp_path, LOG)
    run.write_json("evaluation.json", EVALUATION)
    run.update_info(skipped=[{"path": "[odd]/x.jpg", "reason": "truncated"}])
    console = a_pipe()
    summary(run, console)
    shown = text_of(console)
    best = shown[: shown.index("On the test images")]
    assert best.index("t0001") < best.index("t0000")
    assert "t0002" not in best
    assert "learning_rate" in best
    assert "weight_decay" not in best  # the same everywhere
    assert "0.6900 ± 0.0100" in shown
    assert "0.6300" in shown
    assert "+0.0123" in shown
    assert "1 unreadable image(s) skipped" in shown
    assert "[odd]/x.jpg: truncated" in shown
    assert "1 of the recipes failed" in shown
    assert str(run.folder) in shown


def test_the_summary_of_a_run_that_was_cut_short(tmp_path):
    console = a_pipe()
    summary(finished_run(tmp_path, []), console)
    assert "no final evaluation" in text_of(console)


def test_ten_recipes_at_most(tmp_path):
    log = []
    for i in range(14):
        name = f"t{i:04d}"
        log += [trial(name, learning_rate=1e-4 * (i + 1)), segment(name), end(name, 1, row(1, i / 20), 1)]
    console = a_pipe()
    summary(finished_run(tmp_path, log), console)
    assert [f"t{i:04d}" in text_of(console) for i in range(14)] == [False] * 4 + [True] * 10
    assert len(trials_table(log)) == 14


def test_one_model_has_no_spread():
    assert plus_minus(spread(0.5, None)) == "0.5000"
    assert plus_minus(spread(0.5, 0.25)) == "0.5000 ± 0.2500"
    assert evaluation_table(EVALUATION).row_count == 3


LEVEL = {
    "event": "level",
    "level": 2,
    "leader": "t0007",
    "control": "t0009",
    "opened": ["block4"],
    "before": ["block5"],
}
FIGURES = {"gain": -0.004, "low": -0.02, "high": 0.0099, "images": 250}


def test_a_verdict_says_what_was_opened_and_what_it_brought():
    none = verdict_line(LEVEL | FIGURES | {"verdict": "none"})
    assert none == (
        "opening block4: -0.0040 log-loss [-0.0200, +0.0099] against training longer with block5 open: no gain; the "
        "search stops there, and the best is block5"
    )
    assert "undecided on 250 images" in verdict_line(LEVEL | FIGURES | {"verdict": "undecided"})
    assert verdict_line(LEVEL | FIGURES | {"verdict": "gain"}).endswith(": a gain")
    first = LEVEL | FIGURES | {"verdict": "none", "opened": ["block5"], "before": []}
    assert "against training longer the head alone" in verdict_line(first)
    assert verdict_line(LEVEL | {"verdict": "untested"}) == "opening block4: the best is t0007; not tested"


def test_the_summary_tells_the_last_verdict_of_each_level(tmp_path):
    early, late = (LEVEL | FIGURES | {"verdict": verdict} for verdict in ("gain", "none"))
    console = a_pipe()
    summary(finished_run(tmp_path, [early, late]), console)
    assert "no gain" in text_of(console)
    assert ": a gain" not in text_of(console)
