"""A weights file is read whatever it is called, fitted exactly, and refused with what is wrong."""

from __future__ import annotations

import contextlib
import re
import warnings

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torchvision.models import densenet121, vgg11_bn

from raysearch.errors import InputError
from raysearch.models.fitting import fit_tensors
from raysearch.models.registry import backbone_spec
from raysearch.models.weight_file import read_tensors

CNN = backbone_spec("simple_cnn")
DENSENET = backbone_spec("densenet121")


def tensors_of(spec, seed=0):
    return {
        f"{block}.{name}": tensor
        for block, module in spec.build_blocks(seed).items()
        for name, tensor in module.state_dict().items()
    }


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


class Evil:
    def __reduce__(self):
        return print, ("code of the file was run",)


def test_safetensors_are_read_with_their_metadata_under_any_name(tmp_path):
    tensors = tensors_of(CNN)
    save_file(tensors, tmp_path / "weights.bin", metadata={"licence": "free"})
    read, metadata = read_tensors(tmp_path / "weights.bin")
    assert same(read, tensors)
    assert metadata == {"licence": "free"}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: {"model": t, "epoch": 3}, lambda t: {"state_dict": t}])
def test_torch_files_are_read_alone_or_inside_a_checkpoint(tmp_path, zipped, wrap):
    tensors = tensors_of(CNN)
    torch.save(wrap(tensors), tmp_path / "weights.safetensors", _use_new_zipfile_serialization=zipped)
    read, metadata = read_tensors(tmp_path / "weights.safetensors")
    assert same(read, tensors)
    assert metadata == {}


def test_a_file_that_would_run_code_is_refused_and_does_not_run(tmp_path, capsys):
    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match=r"evil.pt' is not a weights file"):
        read_tensors(tmp_path / "evil.pt")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.ones(2)], torch.ones(2), {"a": torch.ones(1), "b": 2}])
def test_a_torch_file_without_tensors_by_name_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(InputError, match="holds no tensors by name"):
        read_tensors(tmp_path / "other.pt")


def test_a_missing_file_is_answered_with_what_can_be_given(tmp_path):
    with pytest.raises(InputError, match=r"weights 'imagnet': no such file; give auto, imagenet, random or the path"):
        read_tensors(tmp_path.__class__("imagnet"))
    with pytest.raises(InputError, match="no such file"):
        read_tensors(tmp_path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Bytes of one small weights file of each kind."""
    folder = tmp_path_factory.mktemp("files")
    tensors = {"a": torch.ones(3), "b": torch.zeros(2)}
    save_file(tensors, folder / "safetensors")
    torch.save(tensors, folder / "zip")
    torch.save(tensors, folder / "legacy", _use_new_zipfile_serialization=False)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_rubbish_and_damaged_files_never_end_in_a_traceback(files, tmp_path, data):
    whole = data.draw(st.sampled_from([b"", b"\x08" + 7 * b"\0" + b"{", *files.values()]))
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))] + data.draw(st.binary(max_size=40)))
    for position, value in data.draw(st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=4)):
        if position < len(damaged):
            damaged[position] = value
    (tmp_path / "damaged").write_bytes(damaged)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about odd pickles before it fails on them
        with contextlib.suppress(InputError):  # a change inside the numbers alone leaves a weights file
            read_tensors(tmp_path / "damaged")


def test_fitting_takes_torchvisions_names_and_ours(tmp_path):
    tensors = tensors_of(DENSENET)
    theirs = {f"features.{name.partition('.')[2]}": tensor for name, tensor in tensors.items()}
    theirs |= {"classifier.weight": torch.zeros(1000, 1024), "classifier.bias": torch.zeros(1000)}
    assert densenet121(weights=None).state_dict().keys() == theirs.keys()
    ours = tensors | {"head.linear.weight": torch.zeros(10, 1024)}
    assert same(fit_tensors(DENSENET, theirs, "theirs"), tensors)
    assert same(fit_tensors(DENSENET, ours, "ours"), tensors)


def test_torchvisions_published_densenet_names_are_understood():
    """Its files are older than its modules: `norm.1` for `norm1`, and no batch counters."""
    tensors = tensors_of(DENSENET)
    published = {
        re.sub(r"(denselayer\d+\.\w+?)([12])\.", r"\1.\2.", f"features.{name.partition('.')[2]}"): tensor
        for name, tensor in tensors.items()
        if not name.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in published
    assert same(fit_tensors(DENSENET, published, "published"), tensors)


def test_half_precision_becomes_single():
    half = {name: t.half() if t.is_floating_point() else t for name, t in tensors_of(CNN).items()}
    fitted = fit_tensors(CNN, half, "half")
    assert {str(t.dtype) for name, t in fitted.items()} == {"torch.float32", "torch.int64"}
    assert all(torch.equal(fitted[name], half[name].to(fitted[name].dtype)) for name in half)


def test_another_architecture_is_refused_by_its_first_tensors():
    with pytest.raises(InputError) as caught:
        fit_tensors(DENSENET, vgg11_bn(weights=None, num_classes=1).features.state_dict(prefix="features."), "w.pt")
    said = str(caught.value)
    assert said.startswith("w.pt does not fit densenet121: stem.conv0.weight, stem.norm0.weight, ")
    assert "and 599 more missing" in said
    assert "features.0.weight, features.0.bias, features.1.weight" in said
    assert len(said) < 700


def test_each_kind_of_misfit_is_named():
    tensors = tensors_of(CNN)
    del tensors["block2.norm.weight"]
    tensors["block9.conv.weight"] = torch.ones(1)
    tensors["block1.conv.weight"] = torch.ones(16, 3, 3, 3)
    tensors["block4.norm.running_var"] = torch.full((160,), torch.nan)
    with pytest.raises(InputError) as caught:
        fit_tensors(CNN, tensors, "w.pt")
    assert str(caught.value) == (
        "w.pt does not fit simple_cnn: block2.norm.weight missing; block9.conv.weight unexpected; block1.conv.weight "
        "(16, 3, 3, 3) instead of (32, 3, 3, 3) of another shape; block4.norm.running_var not finite"
    )


@pytest.mark.parametrize("prefix", ["module.", "model.", "backbone.", "_orig_mod.", "module.densenet121.", "a.b.c."])
def test_what_all_names_begin_with_is_cut(prefix):
    tensors = tensors_of(DENSENET)
    theirs = {f"{prefix}features.{name.partition('.')[2]}": tensor for name, tensor in tensors.items()}
    theirs |= {f"{prefix}classifier.0.weight": torch.zeros(14, 1024), f"{prefix}classifier.0.bias": torch.zeros(14)}
    assert same(fit_tensors(DENSENET, theirs, "theirs"), tensors)
    ours = {f"{prefix}{name}": tensor for name, tensor in tensors.items()} | {"fc.weight": torch.zeros(2, 1024)}
    assert same(fit_tensors(DENSENET, ours, "ours"), tensors), "and a head that stands outside of it is left out"


def test_what_is_no_backbone_is_a_head():
    """The names that timm gives vgg19."""
    vgg = backbone_spec("vgg19")
    tensors = {name: torch.zeros(tensor.shape) for name, tensor in vgg.layout.tensors.items()}
    timm = {f"features.{name.partition('.')[2]}": tensor for name, tensor in tensors.items()}
    timm |= {f"pre_logits.fc{n}.{kind}": torch.zeros(4) for n in (1, 2) for kind in ("weight", "bias")}
    timm |= {"head.fc.weight": torch.zeros(3), "neck.conv.weight": torch.zeros(3)}
    assert same(fit_tensors(vgg, timm, "timm"), tensors)


def test_a_file_of_two_networks_is_refused():
    both = {f"{who}.{name}": tensor for who in ("student", "teacher") for name, tensor in tensors_of(CNN).items()}
    with pytest.raises(InputError, match=r"w\.pt holds several backbones: student\., teacher\."):
        fit_tensors(CNN, both, "w.pt")


def test_a_checkpoint_with_its_tensors_under_model_state_dict(tmp_path):
    torch.save({"model_state_dict": tensors_of(CNN), "epoch": 3}, tmp_path / "w.pt")
    assert same(read_tensors(tmp_path / "w.pt")[0], tensors_of(CNN))


@pytest.mark.parametrize(
    ("backbone", "heads"),
    [
        ("resnet18", ("fc.weight", "fc.bias")),
        ("convnext_tiny", ("classifier.2.weight", "classifier.2.bias")),
        ("vit_b_16", ("heads.head.weight", "heads.head.bias")),
        ("swin_t", ("head.weight", "head.bias")),
        ("mobilenet_v3_large", ("classifier.0.weight", "classifier.3.bias")),
        ("regnet_y_400mf", ("fc.weight",)),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module.backbone."])
def test_the_authors_names_of_every_family_are_taken_and_its_head_is_left_out(backbone, heads, prefix):
    spec = backbone_spec(backbone)
    tensors = {name: torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in spec.layout.tensors.items()}
    theirs = {f"{prefix}{name}": tensors[own] for name, own in spec.layout.own_names.items()}
    assert same(fit_tensors(spec, theirs | {f"{prefix}{name}": torch.ones(4, 4) for name in heads}, "theirs"), tensors)


def test_vits_published_names_are_understood():
    """torchvision's file is older than its modules: mlp.linear_1 for mlp.0."""
    spec = backbone_spec("vit_b_16")
    published = {
        name.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2."): torch.zeros(
            spec.layout.tensors[own].shape
        )
        for name, own in spec.layout.own_names.items()
    }
    assert "encoder.layers.encoder_layer_0.mlp.linear_1.weight" in published
    assert fit_tensors(spec, published, "published").keys() == spec.layout.tensors.keys()
