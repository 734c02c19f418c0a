"""What weights are on this machine, and which of a folder fits."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from raysearch.cli.main import main
from raysearch.errors import InputError
from raysearch.models.weights import digest, load_weights
from tests.models.test_weights import tensors_of


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    place = tmp_path / "mine"
    place.mkdir()
    save_file(tensors_of("simple_cnn"), place / "cnn.safetensors", metadata={"trained_on": "my photos"})
    torch.save({"state_dict": tensors_of("resnet18")}, place / "resnet.pth")
    (place / "broken.pt").write_bytes(b"nothing")
    (place / "notes.txt").write_text("no weights")
    return place


def test_of_a_folder_the_file_that_fits_is_taken(folder):
    loaded = load_weights("simple_cnn", str(folder), 0)
    assert loaded.digest == digest(tensors_of("simple_cnn"))
    assert loaded.again == str(folder / "cnn.safetensors")
    assert "fits" in loaded.reason


def test_of_a_folder_where_two_fit_one_must_be_named(folder):
    save_file(tensors_of("simple_cnn", 1), folder / "other.safetensors")
    with pytest.raises(InputError, match=r"cnn.safetensors, other.safetensors fit simple_cnn; name one of them"):
        load_weights("simple_cnn", str(folder), 0)


def test_of_a_folder_where_none_fits_each_says_why(folder):
    with pytest.raises(InputError) as caught:
        load_weights("vgg16", str(folder), 0)
    head, broken, cnn, resnet = caught.value.problems
    assert "none of 3 files fits vgg16" in head
    assert "neither a safetensors nor a torch file" in broken
    assert cnn.startswith("cnn.safetensors does not fit vgg16: block1.0.weight")
    assert resnet.startswith("resnet.pth does not fit vgg16")
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="there is no .*safetensors.* file in this folder"):
        load_weights("vgg16", str(folder / "empty"), 0)


def test_the_command_lists_files_with_what_they_fit(folder, capsys):
    assert main(["weights", str(folder), "--json"]) == 0
    listed = {Path(one["path"]).name: one for one in json.loads(capsys.readouterr().out)}
    bundled, cnn, resnet = (listed[n] for n in ("densenet121_cifar100.safetensors", "cnn.safetensors", "resnet.pth"))
    assert (bundled["place"], bundled["fits"], bundled["license"]) == ("bundled", ["densenet121"], "Apache-2.0")
    assert (cnn["fits"], cnn["trained_on"]) == (["simple_cnn"], "my photos")
    assert cnn["digest"] == hashlib.sha256((folder / "cnn.safetensors").read_bytes()).hexdigest()[:12]
    assert resnet["fits"] == ["resnet18"]
    assert "neither a safetensors nor a torch file" in listed["broken.pt"]["problem"]
    assert "notes.txt" not in listed
    assert main(["weights", str(folder)]) == 0
    assert "fits simple_cnn; trained on my photos; licence not stated" in capsys.readouterr().out
    assert main(["weights", str(folder / "nowhere")]) == 2


def test_what_torchvision_downloaded_is_known_by_its_name(folder, tmp_path, capsys):
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(tensors_of("resnet18"), cache / "resnet18-f37072fd.pth")
    assert main(["weights", "--json"]) == 0
    [one] = [one for one in json.loads(capsys.readouterr().out) if one["place"] == "torch hub"]
    assert one["trained_on"] == "ImageNet (ResNet18_Weights.IMAGENET1K_V1)"


def test_several_weights_of_torchvision_go_by_their_names(folder, tmp_path):
    """V1 and V2 are other files."""
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(tensors_of("mobilenet_v3_large"), cache / "mobilenet_v3_large-8738ca79.pth")
    loaded = load_weights("mobilenet_v3_large", "IMAGENET1K_V1", 0)
    assert loaded.origin == "ImageNet (MobileNet_V3_Large_Weights.IMAGENET1K_V1)"
    assert loaded.again == "IMAGENET1K_V1"


def renamed(tensors, prefix, plus=0):
    return {f"{prefix}{name}": tensor + plus for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda t: {
            "state_dict": t,
            "state_dict_ema": renamed(t, "", 1),
            "args": argparse.Namespace(lr=1),
            "metric": np.float64(81.5),
        },
        lambda t: {"model": renamed(t, "module."), "model_ema": renamed(t, "module.", 1) | {"n": torch.tensor(3)}},
        lambda t: {"state_dict": renamed(t, "net.") | renamed(t, "ema.net.", 1)},
    ],
    ids=["timm", "torchvision", "inside"],
)
def test_of_a_checkpoint_with_averaged_tensors_those_are_taken(wrapped, tmp_path):
    tensors = tensors_of("simple_cnn")
    torch.save(wrapped(tensors), tmp_path / "checkpoint.pth.tar")
    state = load_weights("simple_cnn", str(tmp_path / "checkpoint.pth.tar"), 0).state
    assert all(torch.equal(state[name], tensors[name] + 1) for name in tensors)


def test_a_checkpoint_of_lightning_is_read(tmp_path):
    tensors = {f"model.{name}": tensor for name, tensor in tensors_of("resnet18").items()}
    other = {"criterion.weight": torch.ones(3), "model.fc.weight": torch.ones(3, 512), "model.fc.bias": torch.ones(3)}
    content = {"epoch": 3, "global_step": 9, "state_dict": tensors | other, "hyper_parameters": {"lr": 0.1}}
    torch.save(content, tmp_path / "last.ckpt")
    assert load_weights("resnet18", str(tmp_path / "last.ckpt"), 0).digest == digest(tensors_of("resnet18"))
