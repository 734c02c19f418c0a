"""timm's networks as backbones: divided by timm's groups, proved against its own forward, or refused with a reason."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from raysearch.errors import InputError
from raysearch.models.boundary import build_classifier, cut, prepare
from raysearch.models.registry import backbone_spec
from raysearch.models.timm_networks import timm_spec
from raysearch.models.weights import load_weights
from raysearch.recipe import Recipe, Stage
from tests.networks import classifier_of

timm = pytest.importorskip("timm")

SIZES = {
    "timm/resnet18": 32,
    "timm/convnext_atto": 32,
    "timm/vit_tiny_patch16_224": 48,
    "timm/deit_tiny_distilled_patch16_224": 32,
    "timm/mobilenetv3_small_050": 40,
    "timm/efficientnet_b0": 32,
    "timm/regnety_002": 32,
    "timm/swin_tiny_patch4_window7_224": 64,
}
READ = {
    "timm/mobilenetv3_small_050": lambda features: features.mean((2, 3)),  # a convolution stands behind its pooling
    "timm/deit_tiny_distilled_patch16_224": lambda features: features[:, 0],  # it reads a second token too
}
"""What is taken as the pooled features of networks whose classifier does more than to pool."""


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_prefix_then_suffix_is_what_timms_classifier_reads_at_every_depth(name, size):
    classifier = classifier_of(name, size=size).eval()
    spec, weights = backbone_spec(name), classifier.state_dict()
    dynamic = {"dynamic_img_size": True} if any(kind in name for kind in ("vit", "deit", "swin")) else {}
    network = timm.create_model(name.removeprefix("timm/"), num_classes=1, **dynamic).eval()
    missing, unexpected = network.load_state_dict(
        {theirs: weights[ours] for theirs, ours in spec.layout.own_names.items()}, strict=False
    )
    assert unexpected == []
    assert set(missing) <= spec.layout.left_out
    pixels = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(network.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        features = network.forward_features((pixels.permute(0, 3, 1, 2) / 255 - mean) / std)
        expected = READ.get(name, lambda read: network.forward_head(read, pre_logits=True))(features)
        assert expected.std() > 1e-4
        for depth in range(len(spec.block_names) + 1):
            prefix, suffix = cut(classifier, depth)
            pooled = suffix[:-1](prefix(prepare(pixels, torch.device("cpu"))))
            torch.testing.assert_close(pooled, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


def test_layers_are_put_together_so_that_there_are_at_most_eight_blocks():
    spec = backbone_spec("timm/vit_tiny_patch16_224")
    assert spec.block_names == ("stem", "blocks0_1", "blocks2_3", "blocks4_5", "blocks6_7", "blocks8_9", "blocks10_11")
    assert (spec.min_image_size, spec.size_step, spec.trained_size) == (16, 16, 224)


def test_what_timm_says_of_the_weights_is_taken_over():
    spec = backbone_spec("timm/vit_tiny_patch16_224")
    assert spec.normalization.mean == (0.5, 0.5, 0.5)
    assert spec.hub is not None
    assert (spec.hub.license, spec.hub.trained_on) == ("apache-2.0", "augreg_in21k_ft_in1k")
    assert spec.hub.url.endswith("timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k/resolve/main/model.safetensors")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm/resnet81", "timm has no network of that name; did you mean timm/resnet"),
        ("timm/xcit_nano_12_p16_224", "cannot be divided: its blocks, one after the other, fail"),
        ("timm/hrnet_w18_small", "cannot be divided"),
    ],
)
def test_what_cannot_be_divided_is_refused_with_the_reason(name, said):
    with pytest.raises(InputError, match=said):
        backbone_spec(name)


def test_blocks_that_compute_something_else_are_refused(monkeypatch):
    """A network whose forward does more than its modules in their order."""
    features = timm.models.resnet.ResNet.forward_features
    monkeypatch.setattr(timm.models.resnet.ResNet, "forward_features", lambda self, x: features(self, x) + 1)
    timm_spec.cache_clear()
    with pytest.raises(InputError, match="cannot be divided: .* differ from it by .* of its largest feature"):
        backbone_spec("timm/resnet10t")


def test_without_timm_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(InputError, match=r"timm/resnet14t needs timm: pip install 'raysearch\[timm\]'"):
        backbone_spec("timm/resnet14t")


def test_weights_come_from_a_file_under_timms_own_names(tmp_path):
    network = timm.create_model("mobilenetv3_small_050", num_classes=7)
    save_file(network.state_dict(), tmp_path / "mine.safetensors")
    loaded = load_weights("timm/mobilenetv3_small_050", str(tmp_path), 0)
    recipe = Recipe(backbone="timm/mobilenetv3_small_050", image_size=32, schedule=(Stage(depth=0, epochs=1),))
    classifier = build_classifier(recipe, 3)
    missing, unexpected = classifier.load_state_dict(loaded.state, strict=False)
    assert unexpected == []
    assert all(name.startswith("head.") for name in missing)
    assert torch.equal(classifier.state_dict()["stem.conv_stem.weight"], network.conv_stem.weight)


def test_auto_takes_what_the_hubs_cache_has_with_its_licence(tmp_path, monkeypatch):
    import huggingface_hub

    place = tmp_path / "models--timm--mobilenetv3_small_050.lamb_in1k"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("abc")
    (place / "snapshots" / "abc").mkdir(parents=True)
    save_file(
        timm.create_model("mobilenetv3_small_050").state_dict(), place / "snapshots" / "abc" / "model.safetensors"
    )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    loaded = load_weights("timm/mobilenetv3_small_050", "auto", 0)
    assert loaded.origin == "timm/mobilenetv3_small_050.lamb_in1k (Hugging Face Hub)"
    assert loaded.metadata["license"] == "apache-2.0"
    assert load_weights("timm/mobilenetv3_small_050", loaded.again, 0).digest == loaded.digest


def test_the_norms_are_batch_norms_to_those_who_freeze_them():
    blocks = backbone_spec("timm/mobilenetv3_small_050").build_blocks(0)
    kinds = [m for block in blocks.values() for m in block.modules() if hasattr(m, "running_mean")]
    assert kinds
    assert all(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in kinds)
