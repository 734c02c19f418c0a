"""What is asked for: one network or several, with weights and sizes that are theirs or the command's."""

from __future__ import annotations

import pytest

from raysearch.errors import InputError
from raysearch.job.flags import Flags
from raysearch.job.wanted import Wanted
from raysearch.space.load import load_space


@pytest.mark.parametrize(
    ("backbone", "size", "space", "wanted"),
    [
        (None, None, "fine_tune", ("densenet121", "auto", None, ())),
        ("vgg16=random@64", None, "fine_tune", ("vgg16", "random", 64, ())),
        ("vgg16@native", None, "which_network", ("vgg16", "auto", 224, ())),
        ("efficientnet_v2_s", "native", "fine_tune", ("efficientnet_v2_s", "auto", 384, ())),
        (None, "native", "baseline", ("simple_cnn", "random", None, ())),
        ("simple_cnn=random,vgg16", 48, "which_network", ("simple_cnn", "random", 48, ("simple_cnn=random", "vgg16"))),
        ("vgg16, resnet18@64", "native", "fine_tune", ("vgg16", "auto", 224, ("vgg16@native", "resnet18@64"))),
    ],
)
def test_networks_weights_and_sizes_are_as_typed_and_as_the_space_says(
    backbone: str | None, size: int | None, space: str, wanted: tuple[str, str, int | None, tuple[str, ...]]
) -> None:
    flags = Flags(space=space, backbone=backbone, image_size=size)
    asked = Wanted.of(flags)
    names = asked.networks or (() if backbone is None else (asked.backbone,))
    found = asked.within(load_space(space, fixed=asked.shared, networks=names))
    assert (found.backbone, found.weights, found.image_size, found.networks) == wanted


def test_no_name_is_no_network() -> None:
    with pytest.raises(InputError, match="name a network"):
        Wanted.of(Flags(backbone=" , "))
