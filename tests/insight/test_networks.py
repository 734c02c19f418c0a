"""raysearch networks: what suits the images comes first, what cannot be used says why, the choice can be typed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import raysearch.insight.networks as judging
from raysearch.cli.arguments import Bar
from raysearch.cli.main import main
from raysearch.data.pixels import load
from raysearch.errors import InputError
from raysearch.insight.networks import Judged, Labelled, cheapest, judge, rank, seen_size
from raysearch.models.candidates import Candidate, find_candidates
from raysearch.models.registry import backbone_spec
from raysearch.training.cost import Cost, cost_of
from tests.insight.photos import splits
from tests.models.test_weights import tensors_of
from tests.trained import classifier, write_pictures

PER_CLASS = {"train": 14, "val": 6, "test": 4}
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder, and no weights but the bundled ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Some photographs of each of CIFAR-10's classes, as arrays."""
    whole, found = load("cifar10-mini", progress=False), {}
    for name, split in (("train", whole.train), ("val", whole.val), ("test", whole.test)):
        rows = np.concatenate([np.flatnonzero(split.labels == label)[: PER_CLASS[name]] for label in range(10)])
        found |= {f"{name}_images": np.asarray(split.pixels)[rows], f"{name}_labels": split.labels[rows]}
    file = tmp_path_factory.mktemp("photos") / "photos.npz"
    np.savez(file, **found)
    return file


def test_a_decoy_comes_last(photos, capsys):
    given = ["networks", "--data", str(photos), "--backbones", "simple_cnn=random,densenet121"]
    assert main([*given, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    best, decoy = told["networks"]
    assert (best["backbone"], best["weights"], best["behind"]) == ("densenet121", "bundled", None)
    assert (decoy["backbone"], decoy["weights"]) == ("simple_cnn", "random")
    assert decoy["surely_behind"]
    assert 0 < decoy["behind_low"] <= decoy["behind"] <= decoy["behind_high"]
    assert best["figure"] > 0.4
    for one in told["networks"]:
        assert 0 <= one["low"] <= one["figure"] <= one["high"] <= 1
        assert one["milliseconds"] > 0
        assert one["milliseconds_in_batch"] > 0
    assert told["images"] == 10 * (PER_CLASS["train"] + PER_CLASS["val"])  # test images are not looked at
    assert (best["parameters"], best["image_size"]) == (6_953_856, 32)
    words = shlex.split(told["next"]["best"])
    assert words[:5] == ["python", "-m", "raysearch.tune", "--space", "fine_tune"]
    assert words[5:] == ["--backbone", "densenet121", "--weights", "bundled", "--data", str(photos)]
    assert told["next"]["cheapest"] == told["next"]["best"]  # the cheaper one is surely behind
    assert not told["interrupted"]


def test_what_cannot_be_used_is_told_and_the_rest_is_ranked(tmp_path, capsys):
    write_pictures(tmp_path / "photos", 12)
    save_file(tensors_of("resnet18"), tmp_path / "other.safetensors")
    given = "densenet121,vgg19,simple_cnn=random,nonet,simple_cnn,resnet18=other.safetensors"
    shared = ["networks", "--data", "photos", "--weights", "other.safetensors", "--image-size", "16"]
    assert main([*shared, "--backbones", given, "--out", "networks.csv"]) == 0
    shown = capsys.readouterr()
    reasons = dict(line.removeprefix("left out: ").split(": ", 1) for line in shown.err.splitlines())
    assert "densenet121 needs at least 29 px" in reasons["densenet121"]
    assert "does not fit vgg19: " in reasons["vgg19"]
    assert "unknown backbone" in reasons["nonet"]
    assert "does not fit simple_cnn: " in reasons["simple_cnn"]
    assert "resnet18 needs at least 32 px" in reasons["resnet18"]
    table = pd.read_csv("networks.csv")
    assert table["backbone"].tolist() == ["simple_cnn"]
    assert "--backbone simple_cnn --weights random --image-size 16 --data photos" in shown.out
    assert main([*shared, "--backbones", "densenet121"]) == 2
    assert "no network is left to rank" in capsys.readouterr().err


def test_ctrl_c_leaves_what_is_known(tmp_path, capsys, monkeypatch):
    write_pictures(tmp_path / "photos", 10)
    known = []

    def interrupted(*given, **settings):
        if known:
            raise KeyboardInterrupt
        known.append(judge(*given, **settings))
        return known[0]

    monkeypatch.setattr(judging, "judge", interrupted)
    given = ["networks", "--data", "photos", "--backbones", "simple_cnn=random,vgg19=random", "--out", "n.html"]
    assert main(given) == 130
    shown = capsys.readouterr().out
    assert "Interrupted" in shown
    assert "simple_cnn" in shown
    assert "vgg19" not in shown
    page = Path("n.html").read_text(encoding="utf-8")
    assert "simple_cnn" in page
    assert "http" not in page


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--download"], "--download needs --backbones"),
        (["--out", "n.txt"], "--out n.txt: give a name that ends in .html or .csv"),
        (["--out", "photos/red/000.png/n.csv"], "n.csv cannot be written: "),
        (["--metric", "acuracy"], "did you mean 'accuracy'?"),
        (["--weights", "random"], "--weights random: a folder or a file is looked for here; name it by network"),
        (["--weights", "nowhere"], "nowhere: no such folder or file"),
        (["--metric", "recall:cat", "--backbones", "simple_cnn=random"], "there is no class 'cat'"),
    ],
)
def test_what_is_refused(tmp_path, capsys, given, told):
    write_pictures(tmp_path / "photos", 4)
    assert main(["networks", "--data", "photos", *given]) == 2
    assert told in capsys.readouterr().err


def test_weights_at_hand_are_found_once_and_go_by_their_names(tmp_path):
    cache, mine = tmp_path / "torch" / "hub" / "checkpoints", tmp_path / "mine"
    cache.mkdir(parents=True)
    mine.mkdir()
    torch.save(tensors_of("resnet18"), cache / "resnet18-f37072fd.pth")
    (mine / "again.pth").write_bytes((cache / "resnet18-f37072fd.pth").read_bytes())
    save_file(tensors_of("simple_cnn"), mine / "cnn.safetensors")
    save_file({"layer.weight": torch.ones(2, 2)}, mine / "unlike.safetensors")
    (mine / "broken.pt").write_bytes(b"nothing")
    found, left_out = find_candidates((), mine)
    assert set(found) == {
        Candidate("densenet121", "bundled"),
        Candidate("resnet18", "IMAGENET1K_V1"),
        Candidate("simple_cnn", str(mine / "cnn.safetensors")),
    }
    assert {one.name for one in left_out} == {"unlike.safetensors", "broken.pt"}
    named, without = find_candidates(["resnet18", "vgg16", "simple_cnn"])
    assert named == [Candidate("resnet18", "IMAGENET1K_V1")]
    assert {one.name: "no pretrained weights" in one.reason for one in without} == {"vgg16": False, "simple_cnn": True}
    fetched, _ = find_candidates(["resnet18", "vgg16"], download=True)
    assert fetched == [*named, Candidate("vgg16", "imagenet")]


def test_images_are_the_same_ones_in_every_size(tmp_path):
    """Two that differ by a pixel are one where it is resized away: the training image leaves, in this size alone."""
    splits(tmp_path / "photos")
    for split, value in (("train", 100), ("val", 101)):
        plain = np.full((32, 32, 3), 100, np.uint8)
        plain[3, 3] = value
        Image.fromarray(plain).save(tmp_path / "photos" / split / "red" / "plain.png")
    sizes = {size: load("photos", image_size=size, progress=False) for size in (8, 32)}
    assert [len(one.train) for one in sizes.values()] == [36, 37]
    images = Labelled.of(dict(sizes))
    assert len(images.paths) == 36 + 13
    assert ("train", "train/red/plain.png") not in images.paths
    judged = judge(Candidate("simple_cnn", "random"), 32, images, CPU, telling=Bar(False))
    assert judged.logits.shape == (49, 3)
    assert rank([judged], images, "accuracy")[0].figure > 0.8  # labels and vectors are in one order


def test_too_few_images(tmp_path):
    write_pictures(tmp_path / "photos", 4)
    dataset = load("photos", image_size=8, progress=False)
    few = Labelled.of({None: dataset})
    assert len(few.labels) == len(dataset.train) + len(dataset.val)
    one = type(dataset)(
        **{**vars(dataset), "train": dataset.train.take(np.arange(1)), "val": dataset.val.take(np.arange(1))}
    )
    with pytest.raises(InputError, match="2 training and validation images; 5 are needed"):
        Labelled.of({None: one})


def test_the_cheapest_that_is_not_surely_behind(tmp_path):
    """Of networks with the same answers the cheaper is first; a cheap one that knows less is no choice."""
    write_pictures(tmp_path / "photos", 20)
    images = Labelled.of({None: load("photos", image_size=8, progress=False)})
    right = 5 * torch.nn.functional.one_hot(torch.from_numpy(images.labels), 3).float().log_softmax(1)

    def network(name: str, logits: torch.Tensor, milliseconds: float) -> Judged:
        return Judged(name, "random", "", "", 8, logits, Cost(milliseconds, milliseconds, 1, 1.0), 0.0)

    nearly = right.clone()
    nearly[:1] = nearly[:1].roll(1, 1)
    all_wrong = right.roll(1, 1)
    made = [
        network("slow", right, 9),
        network("wrong", all_wrong, 1),
        network("fast", right, 5),
        network("near", nearly, 2),
    ]
    for metric in ("accuracy", "loss"):
        places = rank(made, images, metric)
        assert [place.network.backbone for place in places] == ["fast", "slow", "near", "wrong"]
        assert [place.surely_behind for place in places] == [False, False, False, True]
        assert cheapest(places).network.backbone == "near"
        assert places[0].behind is None


def test_sizes_and_costs():
    assert [seen_size("densenet121", one) for one in (None, 64, "native")] == [None, 64, 224]
    assert seen_size("simple_cnn", "native") is None
    cost = cost_of(classifier()[:-1], 16, CPU)
    spec = backbone_spec("simple_cnn").layout.tensors
    assert cost.megabytes == pytest.approx(sum(one.numel() * one.element_size() for one in spec.values()) / 1e6)
    assert cost.parameters == sum(
        one.numel() for name, one in spec.items() if "running" not in name and "num_" not in name
    )
    assert 0 < cost.milliseconds_in_batch < 1000
