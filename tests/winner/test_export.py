"""An exported file computes what the classifier computes and says how to feed it; or it is not left behind."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from raysearch.cli.main import main
from raysearch.data.value_range import PixelRange
from raysearch.errors import InputError
from raysearch.models.boundary import build_classifier, prepare
from raysearch.recipe import Head, Recipe, Stage
from raysearch.run import Run
from raysearch.winner import formats
from raysearch.winner.best import load_best
from raysearch.winner.best_files import write_best
from raysearch.winner.description import describe
from raysearch.winner.export import BATCHES, TOLERANCE, ExportError, check_images, export, largest_difference
from raysearch.winner.formats import SUFFIXES
from raysearch.winner.shipment import Shipment
from tests.networks import FEW, register_tiny
from tests.trained import CLASSES, RECIPE, classifier, picture, write_pictures

KINDS = tuple(SUFFIXES)
EVALUATION = {"test": {name: {"mean": 0.9, "std": None, "values": [0.9]} for name in ("accuracy", "macro_f1")}}


@pytest.fixture(scope="module")
def best(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "best"
    write_best(folder, Shipment.of(classifier(), RECIPE), CLASSES, "abc", "")
    return load_best(folder)


@pytest.fixture(scope="module")
def images():
    return np.stack([picture(name, seed, (16, 16)) for seed in range(8) for name in CLASSES])


@pytest.fixture(scope="module")
def onnx_file(best, images, tmp_path_factory):
    return export(best, "onnx", tmp_path_factory.mktemp("onnx") / "model.onnx", images).file


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backbone", ["resnet18", *FEW])
def test_every_kind_of_network_computes_the_same_in_batches_of_any_size(tmp_path, backbone, kind, monkeypatch):
    register_tiny(monkeypatch)
    size = 32
    recipe = Recipe(
        backbone=backbone,
        image_size=size,
        weights="random",
        pooling="both",
        head=Head(kind="hidden", hidden_units=16),
        schedule=(Stage(depth=1, epochs=1, dropout=0.5),),
    )
    model = build_classifier(recipe, 5)
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as first weights have it, leaving it out would not be noticed
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    write_best(tmp_path / "best", Shipment.of(model, recipe), list("abcde"), "", "")
    best = load_best(tmp_path / "best")
    checked, _ = check_images(best, None)
    assert len(checked) == sum(BATCHES)
    done = export(best, kind, tmp_path / f"model{SUFFIXES[kind]}", checked)
    assert done.images == len(checked)
    assert done.difference <= TOLERANCE
    with torch.inference_mode():
        logits = best.model()(prepare(checked, torch.device("cpu")))
    assert np.ptp(logits.numpy(), axis=0).max() > 10 * TOLERANCE, "these images would not show a difference"
    assert str(tmp_path.parent).encode() not in done.file.read_bytes()
    assert str(Path(torch.__file__).parents[1]).encode() not in done.file.read_bytes()


@pytest.mark.slow
def test_who_has_only_pillow_and_onnxruntime_gets_what_predict_says(best, onnx_file, tmp_path):
    import onnxruntime

    folder = write_pictures(tmp_path / "new", 2)
    Image.new("RGB", (90, 40), (200, 90, 10)).save(folder / "wide.png")
    described = json.loads(Path(f"{onnx_file}.json").read_text())
    session = onnxruntime.InferenceSession(onnx_file)
    answers = best.predict(folder)
    size = described["before_the_graph"]["image_size"]
    for answer in answers.to_dict("records"):
        with Image.open(answer["image"]) as opened:
            pixels = np.asarray(opened.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))
        (shares,) = session.run(["probabilities"], {described["input"]["name"]: pixels[None]})
        assert described["classes"][shares[0].argmax()] == answer["label"]
        assert shares[0] == pytest.approx([answer[f"p_{name}"] for name in described["classes"]], abs=1e-4)


def test_the_description_says_which_values_are_black_and_white(best, tmp_path):
    assert describe(best, "torch")["before_the_graph"]["range"] is None
    shipment = Shipment.of(classifier(), RECIPE)
    write_best(tmp_path / "best", shipment, CLASSES, "", "", pixel_range=PixelRange(-1, 1))
    deep = describe(load_best(tmp_path / "best"), "torch")["before_the_graph"]
    assert deep["range"] == {"low": -1, "high": 1}
    assert "-1 to 1 linearly to 0 to 255, clipped" in deep["values"]


@pytest.mark.slow
def test_the_description_is_in_the_file_too(onnx_file):
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_file)
    inside = json.loads(session.get_modelmeta().custom_metadata_map["raysearch.json"])
    beside = json.loads(Path(f"{onnx_file}.json").read_text())
    assert beside.items() >= inside.items()
    assert beside["check"]["batch_sizes"] == [1, 2, 13, 8]
    (images,) = session.get_inputs()
    assert (images.name, images.type, images.shape) == ("images", "tensor(uint8)", ["batch", 16, 16, 3])
    assert [output.name for output in session.get_outputs()] == list(inside["outputs"])


def test_a_program_of_torch_needs_nothing_of_ours(best, images, tmp_path):
    done = export(best, "torch", tmp_path / "m.pt2", images, images_of="pictures", evaluation=EVALUATION)
    inside = {"raysearch.json": ""}
    program = torch.export.load(done.file, extra_files=inside).module()
    logits, shares = program(torch.from_numpy(images))
    with torch.inference_mode():
        expected = best.model()(prepare(images, torch.device("cpu")))
    assert torch.allclose(logits, expected, atol=1e-5)
    assert torch.allclose(shares.sum(dim=1), torch.ones(len(images)))
    described = json.loads(done.description.read_text())
    assert json.loads(inside["raysearch.json"])["classes"] == described["classes"] == list(CLASSES)
    assert described["test"]["accuracy"]["mean"] == 0.9
    assert described["check"]["of"] == "pictures"


def test_a_file_that_computes_something_else_is_not_left_behind(best, images, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "IMAGENET_MEAN", (0.5, 0.5, 0.5))
    with pytest.raises(ExportError, match="differ by up to"):
        export(best, "torch", tmp_path / "model.pt2", images)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "model.pt2").write_bytes(b"an earlier one")
    with pytest.raises(ExportError):
        export(best, "torch", tmp_path / "model.pt2", images)
    assert (tmp_path / "model.pt2").read_bytes() == b"an earlier one"


def test_a_network_that_gives_no_numbers_is_not_exported(images, tmp_path):
    model = classifier()
    with torch.no_grad():
        model.head.linear.bias.fill_(float("nan"))
    write_best(tmp_path / "best", Shipment.of(model, RECIPE), CLASSES, "", "")
    with pytest.raises(ExportError, match="nan"):
        export(load_best(tmp_path / "best"), "torch", tmp_path / "model.pt2", images)


def test_the_largest_difference_is_over_batches_of_several_sizes(best, images):
    model, sizes = best.model(), []

    def read(batch):
        sizes.append(len(batch))
        with torch.inference_mode():
            logits = model(prepare(batch, torch.device("cpu"))).numpy()
        logits[-1, 0] += 0.25 * (len(sizes) == 2)
        return logits

    many = np.concatenate([images] * 3)
    assert largest_difference(model, read, many) == pytest.approx(0.25, abs=1e-5)
    assert sizes == list(BATCHES)
    sizes.clear()
    largest_difference(model, read, many[:5])
    assert sizes == [1, 2, 2]


def test_what_keeps_a_file_from_being_written_is_said_together(best, images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it were not installed
    with pytest.raises(InputError) as caught:
        export(best, "onnx", tmp_path / "model.pt", images)
    needs, ends = caught.value.problems
    assert "needs onnxruntime: pip install 'raysearch[export]'" in needs
    assert "must end in .onnx" in ends
    (tmp_path / "a.pt2").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        export(best, "torch", tmp_path / "a.pt2", images)


def test_it_is_checked_with_the_runs_own_images_or_with_the_bundled_ones(best, tmp_path):
    source = str(write_pictures(tmp_path / "photos", 5))
    own, name = check_images(best, source)
    assert name == source
    assert own.shape == (15, 16, 16, 3)
    for path in (tmp_path / "photos" / "red").iterdir():
        path.write_bytes(b"broken")
    assert len(check_images(best, source)[0]) == 10
    for gone in (str(tmp_path / "nowhere"), str(tmp_path / "photos" / "red"), "svhn", None):
        bundled, name = check_images(best, gone)
        assert name == "cifar10-mini"
        assert bundled.shape == (sum(BATCHES), 16, 16, 3)


def test_the_command_puts_it_into_best_and_says_the_difference(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    write_pictures(tmp_path / "photos", 10)
    run = Run.create(tmp_path / "results" / "one", {"data": "photos"})
    write_best(run.folder / "best", Shipment.of(classifier(), RECIPE), CLASSES, "abc", "")
    run.write_json("evaluation.json", EVALUATION)
    assert main(["export", "one", "--format", "torch"]) == 0
    assert "on 30 images of photos, in batches of 1, 2, 13, 14" in capsys.readouterr().out
    described = json.loads((run.folder / "best" / "model.pt2.json").read_text())
    assert described["file"] == "model.pt2"
    assert described["test"] == EVALUATION["test"]
    assert run.predict(picture("green", 3))["label"].tolist() == ["green"]

    monkeypatch.setattr(formats, "IMAGENET_MEAN", (0.5, 0.5, 0.5))
    assert main(["export", "results/one/best", "--format", "torch", "--out", "wrong.pt2"]) == 1
    assert "error: the exported file is not the classifier" in capsys.readouterr().err
    assert not (tmp_path / "wrong.pt2").exists()
    assert main(["export", "one", "--format", "torch", "--out", "photos/red/000.png/model.pt2"]) == 2
    assert "cannot be written" in capsys.readouterr().err
    (run.folder / "best" / "labels.json").unlink()
    assert main(["export", "one", "--format", "torch", "--out", "model.onnx"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
