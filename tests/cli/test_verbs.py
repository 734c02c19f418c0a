"""The verbs as a person types them: what they print, and their exit codes."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from raysearch.cli.main import main
from raysearch.run import Run
from raysearch.winner.best_files import write_best
from raysearch.winner.shipment import Shipment
from tests.trained import CLASSES, RECIPE, classifier, write_pictures


@pytest.fixture(scope="module")
def trained():
    return classifier()


@pytest.fixture
def here(tmp_path, monkeypatch, trained):
    """A working folder with photos/ and results/one/, as a search would have left it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    write_pictures(tmp_path / "photos", 10)
    run = Run.create(tmp_path / "results" / "one", {"data": "photos", "seed": 3})
    write_best(run.folder / "best", Shipment.of(trained, RECIPE), CLASSES, "abc", "")
    return tmp_path


def test_help_lists_the_verbs_and_teaches_each(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert "evaluate" in shown
    assert "report" in shown
    assert "predict" in shown
    for verb in ("evaluate", "predict"):
        assert main([verb, "--help"]) == 0
        shown = capsys.readouterr().out
        assert f"raysearch {verb} fine_tune-1" in shown  # an example
        assert "RUN" in shown


def test_help_answers_at_once_without_torch():
    code = "import sys; from raysearch.cli.main import main; sys.exit(main(['--help']) or 'torch' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["predict"], ["predict", "one", "x.png", "--top", "many"]])
def test_arguments_that_cannot_be_read_exit_with_2(arguments, capsys):
    assert main(arguments) == 2
    assert capsys.readouterr().err


def test_predict_names_what_is_on_the_images(here, capsys):
    assert main(["predict", "one", "photos/red/000.png", "photos/blue", "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 11
    assert lines[0].startswith("photos/red/000.png  red ")
    assert all("  blue " in line for line in lines[1:])
    assert len(lines[0].split()) == 1 + 2 * 2


def test_predict_works_where_the_training_data_never_was(here, tmp_path_factory, capsys):
    away = tmp_path_factory.mktemp("away")
    shutil.copytree(here / "results" / "one" / "best", away / "model")
    shutil.copy(here / "photos" / "green" / "001.png", away)
    shutil.rmtree(here / "photos")
    shutil.rmtree(here / "results")
    assert main(["predict", str(away / "model"), str(away / "001.png"), "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["label"] == "green"
    assert answer["top"][0]["label"] == "green"
    assert sum(one["probability"] for one in answer["top"]) == pytest.approx(1)


def test_predict_explains_each_image_with_a_picture(here, capsys):
    (here / "photos" / "blue" / "004.png").write_bytes(b"broken")
    assert main(["predict", "one", "photos/red/000.png", "photos/blue", "--explain", "why", "--json"]) == 1
    answers = json.loads(capsys.readouterr().out)
    told = {answer["image"]: answer.get("explanation") for answer in answers}
    assert told["photos/red/000.png"] == "why/000.png"
    assert told["photos/blue/000.png"] == "why/000-2.png"
    assert told["photos/blue/004.png"] is None
    assert sorted(path.name for path in (here / "why").iterdir()) == sorted(
        Path(path).name for path in told.values() if path is not None
    )


@pytest.mark.parametrize("folder", ["photos/red", "links"])
def test_predict_never_writes_an_explanation_over_an_image(here, capsys, folder):
    photo = here / "photos" / "red" / "000.png"
    before = photo.read_bytes()
    (here / "links").mkdir()
    (here / "links" / "000.png").symlink_to(photo)
    for name in ("000-2.png", "000-3.png" if folder == "photos/red" else "000-2.png"):
        assert main(["predict", "one", "photos/red/000.png", "--explain", folder, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)[0]["explanation"] == f"{folder}/{name}"
    assert photo.read_bytes() == before


def test_predict_says_where_it_cannot_explain(here, capsys):
    assert main(["predict", "one", "photos", "--explain", "photos/red/000.png"]) == 2
    assert "--explain photos/red/000.png: the folder cannot be made" in capsys.readouterr().err


def test_predict_reports_an_unreadable_image_goes_on_and_exits_with_1(here, capsys):
    (here / "photos" / "blue" / "004.png").write_bytes(b"broken")
    assert main(["predict", "one", "photos", "--json"]) == 1
    caught = capsys.readouterr()
    answers = json.loads(caught.out)
    assert len(answers) == 30
    assert [answer["image"] for answer in answers if "error" in answer] == ["photos/blue/004.png"]
    assert "photos/blue/004.png: cannot be read" in caught.err
    assert "1 of 30" in caught.err


def test_predict_writes_a_csv_and_counts_what_it_named(here, capsys):
    (here / "photos" / "blue" / "004.png").write_bytes(b"broken")
    assert main(["predict", "one", "photos", "--tta", "--csv", "answers.csv"]) == 1
    caught = capsys.readouterr()
    assert caught.out == "answers.csv  green 10, red 10, blue 9\n"
    assert "1 of 30" in caught.err
    assert len((here / "answers.csv").read_text().splitlines()) == 1 + 29


def test_a_csv_that_cannot_be_written_is_said_before_anything_is_predicted(here, capsys):
    (here / "file").write_text("")
    assert main(["predict", "one", "photos", "--csv", "file/answers.csv"]) == 2
    assert "--csv file/answers.csv cannot be written" in capsys.readouterr().err
    assert main(["predict", "one", "photos", "--csv", "a.csv", "--json"]) == 2
    assert "give one" in capsys.readouterr().err


@pytest.mark.parametrize(
    "given",
    [
        ["predict", "one", "--csv", "photos/red/000.png", "photos/red/001.png"],  # photos/red/*.png, as a shell has it
        ["data", "photos", "--out", "photos/red/000.png"],
        ["portfolio", "one", "--out", "results/one/space.py"],
        ["networks", "--data", "labels.csv", "--out", "labels.csv"],
        ["sweep", "--space", "results/one/space.py", "--out", "results/one/space.py"],
        ["embed", "--data", "table.parquet", "--out", "table.parquet"],
        ["similar", "table.parquet", "photos/red/000.png", "--out", "photos/red/000.png"],
    ],
)
def test_nothing_that_a_verb_reads_is_written_over(here, capsys, given):
    (here / "results" / "one" / "space.py").write_text("of somebody")
    (here / "labels.csv").write_text("path,label")
    (here / "table.parquet").write_bytes(b"images")
    lost = Path(given[given.index("--csv" if "--csv" in given else "--out") + 1])
    before = lost.read_bytes()
    assert main(given) == 2
    assert f"{lost} is " in (said := capsys.readouterr().err)
    assert "would be lost" in said
    assert lost.read_bytes() == before


def test_all_problems_come_together_without_a_traceback(here, capsys):
    assert main(["predict", "onne", "a.png", "b.png", "--top", "0"]) == 2
    caught = capsys.readouterr()
    assert caught.out == ""
    assert [line.split(":")[0] for line in caught.err.splitlines()] == ["error"] * 4
    for said in ("did you mean 'one'", "a.png", "b.png", "--top"):
        assert said in caught.err


def test_evaluate_measures_the_runs_own_test_images(here, capsys):
    assert main(["evaluate", "one", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == 1.0
    assert found["split"] == "test"
    assert 0 < found["images"] < 30
    assert sum(row["support"] for row in found["per_class"].values()) == found["images"]


def test_evaluate_shows_every_class_and_where_mistakes_go(here, capsys):
    (here / "photos" / "red").rename(here / "photos" / "x")
    (here / "photos" / "green").rename(here / "photos" / "red")
    (here / "photos" / "x").rename(here / "photos" / "green")
    assert main(["evaluate", "results/one", "--data", "photos", "--split", "all"]) == 0
    shown = capsys.readouterr().out
    assert "30 images (all) of photos" in shown
    assert "accuracy 0.3333" in shown
    assert "green (10)" in shown


def test_evaluate_says_when_the_images_are_not_the_runs_any_more(here, caplog):
    Run.open("one").update_info(fingerprints={"data": "another"})
    assert main(["evaluate", "one"]) == 0
    assert "not those that the run was started with" in caplog.text


def test_evaluate_of_best_alone_asks_for_data(here, capsys):
    assert main(["evaluate", "results/one/best"]) == 2
    assert "--data SOURCE" in capsys.readouterr().err
    assert main(["evaluate", "results/one/best", "--data", "photos"]) == 0


def test_evaluate_refuses_data_that_is_not_there(here, capsys):
    assert main(["evaluate", "one", "--data", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_report_writes_the_page_or_says_why_it_cannot_serve_it(here, capsys):
    assert main(["report", "one"]) == 0
    assert capsys.readouterr().out.strip() == "results/one/report.html"
    assert (here / "results" / "one" / "report.html").is_file()
    assert main(["report", "onne", "--serve", "1", "2"]) == 2
    told = capsys.readouterr().err
    assert "did you mean 'one'" in told
    assert "--serve takes one port" in told
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert main(["report", "one", "--serve", port]) == 2
    assert f"--serve {port}" in capsys.readouterr().err


def test_fetch_of_a_run_without_a_storage_says_where_it_is(here, capsys):
    assert main(["fetch", "one"]) == 2
    assert "results/one was not started with --storage: all of it is in that folder" in capsys.readouterr().err


def test_verbs_take_a_run_in_a_storage(here, capsys):
    (here / "there").mkdir()
    (here / "results" / "one").rename(here / "there" / "one")
    uri = f"{(here / 'there').as_uri()}/one"
    assert main(["predict", uri, "photos/red/000.png"]) == 0
    assert capsys.readouterr().out.startswith("photos/red/000.png  red ")
    assert main(["report", uri]) == 0
    assert "<html" in (here / "there" / "one" / "report.html").read_text()
    capsys.readouterr()
    assert main(["fetch", uri]) == 0
    assert capsys.readouterr().out == "results/one\n"
    assert (here / "results" / "one" / "best" / "recipe.json").exists()
    assert main(["show", f"{uri}-not"]) == 2
    assert "it has no run.json" in capsys.readouterr().err


def test_a_run_that_was_cut_short_has_nothing_to_predict_with(here, capsys):
    Run.create(here / "results" / "two", {})
    assert main(["predict", "two", "photos"]) == 2
    assert "--resume" in capsys.readouterr().err
