"""Whatever is shipped is written, read, asked, measured and exported like one network."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from raysearch.cli.main import main
from raysearch.errors import InputError
from raysearch.models.boundary import build_classifier, prepare
from raysearch.run import Run
from raysearch.training.averaging import mean_state
from raysearch.winner.best import Best, load_best
from raysearch.winner.best_files import write_best
from raysearch.winner.confidence import RiskCoverage
from raysearch.winner.evaluate import detailed_metrics
from raysearch.winner.export import export, export_run
from raysearch.winner.formats import SUFFIXES, read_file
from raysearch.winner.shipment import Confidence, Network, Shipment
from tests.trained import CLASSES, RECIPE, classifier, picture, write_pictures

KINDS = ("single", "averaged", "mirror", "ensemble")
TEMPERATURE = 1.7
CURVE = RiskCoverage(np.array([0.99, 0.9, 0.4]), np.array([0.2, 0.7, 1.0]), np.zeros(3), np.array([0.02, 0.04, 0.2]))
IMAGES = np.stack([picture(name, seed, (16, 16)) for seed in range(5) for name in CLASSES])


def network(seed: int) -> nn.Sequential:
    """The trained classifier, shaken: no two are alike."""
    model = classifier()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model.eval()


NETWORKS = (network(1), network(2))


def averaged() -> nn.Sequential:
    model = build_classifier(RECIPE, len(CLASSES))
    model.load_state_dict(mean_state([one.state_dict() for one in NETWORKS]))
    return model.eval()


def shipment(kind: str, confidence: Confidence) -> Shipment:
    if kind == "ensemble":
        return Shipment(
            kind, (Network(RECIPE, NETWORKS[0], 0.75), Network(RECIPE, NETWORKS[1], 0.25)), False, confidence
        )
    model = NETWORKS[0] if kind == "single" else averaged()
    return Shipment(kind, (Network(RECIPE, model),), kind == "mirror", confidence)


def expected(kind: str, temperature: float = 1.0, images: np.ndarray = IMAGES) -> np.ndarray:
    """What it is to say, from the networks themselves: probabilities (n, classes)."""
    inputs = prepare(images, torch.device("cpu"))

    def shares(model: nn.Module, view: torch.Tensor = inputs) -> torch.Tensor:
        with torch.inference_mode():
            return torch.softmax(model(view).double(), dim=1)

    found = {
        "single": lambda: shares(NETWORKS[0]),
        "averaged": lambda: shares(averaged()),
        "mirror": lambda: (shares(averaged()) + shares(averaged(), inputs.flip(3))) / 2,
        "ensemble": lambda: 0.75 * shares(NETWORKS[0]) + 0.25 * shares(NETWORKS[1]),
    }[kind]()
    return torch.softmax(found.log() / temperature, dim=1).numpy()


def written(folder: Path, kind: str, confidence: Confidence | None = None) -> Best:
    sure = Confidence(TEMPERATURE, None, CURVE, 300) if confidence is None else confidence
    write_best(folder / "best", shipment(kind, sure), CLASSES, "abc", "# A model")
    return load_best(folder)


def told(best: Best, **options) -> np.ndarray:
    return best.predict(IMAGES, **options)[[f"p_{name}" for name in CLASSES]].to_numpy(float)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_answers_as_the_networks_that_were_written(tmp_path, kind):
    best = written(tmp_path, kind)
    assert np.abs(told(best) - expected(kind, TEMPERATURE)).max() < 1e-5
    read = best.shipment()
    assert (read.kind, len(read.networks), read.mirrored) == (kind, 2 if kind == "ensemble" else 1, kind == "mirror")
    assert best.confidence.temperature == TEMPERATURE
    assert best.confidence.images == 300


def test_an_ensembles_probabilities_are_the_mean_of_its_members_and_a_temperature_is_another_thing(tmp_path):
    plain = written(tmp_path, "ensemble", Confidence())
    members = [expected("single"), expected("ensemble") * 4 - expected("single") * 3]
    assert np.abs(told(plain) - (0.75 * members[0] + 0.25 * members[1])).max() < 1e-5
    assert np.abs(told(written(tmp_path / "hot", "ensemble")) - told(plain)).max() > 1e-3


def test_an_averaged_network_is_the_mean_of_the_tensors_and_costs_one(tmp_path):
    found = written(tmp_path, "averaged").shipment()
    assert found.cost == 1
    for name, tensor in found.networks[0].classifier.state_dict().items():
        each = [one.state_dict()[name] for one in NETWORKS]
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, (each[0] + each[1]) / 2)


@pytest.mark.parametrize("form", tuple(SUFFIXES))
@pytest.mark.parametrize("kind", ["averaged", "mirror", "ensemble"])
def test_what_is_exported_answers_alike_and_is_described(tmp_path, kind, form):
    best = written(tmp_path, kind)
    done = export(best, form, tmp_path / f"model{SUFFIXES[form]}", IMAGES)
    logits = torch.from_numpy(read_file(form, done.file)(IMAGES)).double()
    assert np.abs(torch.softmax(logits, dim=1).numpy() - expected(kind, TEMPERATURE)).max() < 1e-5
    described = json.loads(done.description.read_text())
    inside = described["in_the_graph"]
    assert described["kind"] == kind
    assert (inside["temperature"], inside["mirrored"]) == (TEMPERATURE, kind == "mirror")
    assert inside["networks"] == (2 if kind == "ensemble" else 1)
    assert described["after_the_graph"] == {"threshold": None, "answer": "the class with the largest probability"}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_measured_and_explained_by_the_commands(tmp_path, monkeypatch, capsys, kind):
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "photos", 3)
    run = Run.create(tmp_path / "results" / "one", {"data": "photos", "seed": 3})
    written(run.folder, kind)
    assert main(["evaluate", "one", "--data", "photos", "--split", "all", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == 9
    answers = run.predict(tmp_path / "photos")
    right = [Path(image).parent.name == label for image, label in zip(answers["image"], answers["label"], strict=True)]
    assert found["accuracy"] == pytest.approx(np.mean(right))
    assert main(["predict", "one", "photos/red/000.png", "--explain", "why"]) == 0
    assert len(list((tmp_path / "why").glob("*.png"))) == 1


# ---- two classes, and a threshold -----------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path) -> Best:
    """A classifier of two classes whose second is the answer from a low probability on."""
    torch.manual_seed(0)
    model = build_classifier(RECIPE, 2).eval()
    with torch.inference_mode():
        shares = torch.softmax(model(prepare(IMAGES, torch.device("cpu"))).double(), dim=1)[:, 1]
    threshold = float(shares.sort()[0][7:9].mean())  # between two images, as thresholds are chosen
    confidence = Confidence(1.0, threshold, CURVE, 300)
    write_best(tmp_path / "best", Shipment("single", (Network(RECIPE, model),), False, confidence), ("a", "b"), "", "")
    return load_best(tmp_path)


def test_the_answer_of_two_classes_follows_the_threshold_everywhere(two, tmp_path, monkeypatch, capsys):
    table = two.predict(IMAGES)
    threshold = two.confidence.threshold
    said = np.where(table["p_b"] >= threshold, "b", "a")
    assert table["label"].tolist() == said.tolist()
    assert set(said) == {"a", "b"}, "the likelier class alone would be one"
    assert table["probability"].tolist() == [row[f"p_{row['label']}"] for row in table.to_dict("records")]
    assert all(answer.top(2)[0][0] == answer.label for answer in two.answers(list(IMAGES)))
    labels = np.array([0, 1] * 8)[: len(IMAGES)]
    logits = torch.log(torch.tensor(table[["p_a", "p_b"]].to_numpy()))
    metrics = detailed_metrics(logits, labels, ("a", "b"), threshold)
    assert metrics["accuracy"] == pytest.approx(np.mean(np.array(["a", "b"])[labels] == said))
    plain = detailed_metrics(logits, labels, ("a", "b"))
    assert metrics["loss"] == plain["loss"], "of probabilities, which no threshold changes"
    assert metrics["auroc"] == pytest.approx(plain["auroc"])
    done = export(two, "torch", tmp_path / "model.pt2", IMAGES)
    after = json.loads(done.description.read_text())["after_the_graph"]
    assert after == {"threshold": threshold, "answer": "b if its probability is at least the threshold, a otherwise"}


def test_evaluate_counts_answers_by_the_stored_threshold(two, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    photos = write_pictures(tmp_path / "photos", 4, ("blue", "red"))
    (photos / "blue").rename(photos / "a")
    (photos / "red").rename(photos / "b")
    table = two.predict(photos)
    threshold = float(table["p_b"].median())
    stored = json.loads((two.folder / "labels.json").read_text())
    stored["shipped"]["threshold"] = threshold
    (two.folder / "labels.json").write_text(json.dumps(stored))
    truth = [Path(image).parent.name for image in table["image"]]
    accuracy = np.mean(np.where(table["p_b"] >= threshold, "b", "a") == np.array(truth))
    assert accuracy != np.mean(table["p_b"].gt(0.5).map({True: "b", False: "a"}) == np.array(truth))
    assert main(["evaluate", "best", "--data", "photos", "--split", "all", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["accuracy"], found["threshold"]) == (pytest.approx(accuracy), threshold)
    assert main(["evaluate", "best", "--data", "photos", "--split", "all"]) == 0
    assert f"The answer is b from a probability of {threshold:.3f} on" in capsys.readouterr().out


# ---- answers withheld -----------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder with results/one, whose classifier is sure of some of the images in photos/ and of others not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    photos = write_pictures(tmp_path / "photos", 4)
    run = Run.create(tmp_path / "results" / "one", {})
    table = written(run.folder, "single").predict(photos)
    middle = float(table["probability"].median())
    curve = RiskCoverage(np.array([0.9999, middle]), np.array([0.2, 0.7]), np.zeros(2), np.array([0.02, 0.04]))
    shutil.rmtree(run.folder / "best")
    written(run.folder, "single", Confidence(TEMPERATURE, None, curve, 300))
    return tmp_path


def labels_of(here: Path) -> pd.DataFrame:
    """Everything answered, and what is unsure at 0.05."""
    best = load_best(here / "results" / "one")
    table = best.predict(here / "photos")
    table["unsure"] = table["probability"] < best.confidence.least(0.05)
    assert set(table["unsure"]) == {True, False}
    return table


def test_unsure_images_have_no_label_in_a_table(here):
    table = labels_of(here)
    best = load_best(here / "results" / "one")
    found = best.predict(here / "photos", abstain=0.05)
    assert found["label"].isna().tolist() == table["unsure"].tolist()
    assert found["probability"].isna().tolist() == table["unsure"].tolist()
    given = ~table["unsure"]
    assert found["label"][given].tolist() == table["label"][given].tolist()
    assert found["p_red"].tolist() == table["p_red"].tolist()
    assert found["error"].isna().all()


def test_unsure_images_have_no_label_in_csv_json_and_lines(here, capsys):
    unsure = labels_of(here)["unsure"].tolist()
    command = ["predict", "one", "photos", "--abstain", "0.05"]
    assert main([*command, "--csv", "answers.csv"]) == 0
    assert f"no label, unsure: {sum(unsure)}" in capsys.readouterr().out
    rows = list(csv.DictReader((here / "answers.csv").read_text().splitlines()))
    assert [row["label"] == "" and row["confidence"] == "" for row in rows] == unsure
    assert main([*command, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [one["label"] is None and one["probability"] is None for one in shown] == unsure
    assert all(len(one["top"]) == 3 for one in shown), "what it would have said"
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["  unsure: " in line for line in lines] == unsure


def test_without_abstain_every_image_has_a_label(here, capsys):
    assert main(["predict", "one", "photos", "--json"]) == 0
    assert all(one["label"] for one in json.loads(capsys.readouterr().out))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--abstain", "0.01"],
            "from 300 out-of-fold images nobody can promise that at most 1 % of the answers",
        ),
        (["--abstain", "0.01"], "the least that they can is 2 %"),
        (["--abstain", "1.5"], "abstain 1.5: the share of wrong answers must be between 0 and 1"),
        (["--abstain", "0"], "abstain 0: the share of wrong answers must be between 0 and 1"),
        (["--abstain", "0.05", "--tta"], "measured without test-time augmentation"),
    ],
)
def test_what_nobody_can_promise_is_refused(here, capsys, arguments, message):
    assert main(["predict", "one", "photos", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_where_nothing_is_known_out_of_fold_it_says_so(tmp_path):
    write_best(tmp_path / "best", Shipment.of(classifier(), RECIPE), CLASSES, "", "")
    best = load_best(tmp_path)
    with pytest.raises(InputError, match="not known out of fold"):
        best.predict(IMAGES, abstain=0.05)
    stored = json.loads((best.folder / "labels.json").read_text())
    del stored["shipped"]  # an earlier version knew nothing of it
    (best.folder / "labels.json").write_text(json.dumps(stored))
    with pytest.raises(InputError, match="not known out of fold"):
        load_best(tmp_path).predict(IMAGES, abstain=0.05)


def test_a_run_with_figures_of_what_is_shipped_exports_them(tmp_path):
    run = Run.create(tmp_path / "one", {})
    written(run.folder, "averaged")
    one = {"mean": 0.7, "std": None, "values": [0.7]}
    test = {"accuracy": one, "macro_f1": one}
    shipped = {"test": {"accuracy": 0.8, "macro_f1": 0.75}}
    run.write_json("evaluation.json", {"test": test, "shipped": shipped})
    done = export_run(run.folder, "torch")
    described = json.loads(done.description.read_text())["test"]
    assert described == test | {"shipped": {"accuracy": 0.8, "macro_f1": 0.75}}
