"""The classifier of a recipe, and the cut that divides it into a frozen prefix and a trained suffix.

A classifier is one `Sequential` of the backbone's blocks, `pool` and `head`. Prefix and suffix are `Sequential`s over
the same children, so the names of their tensors are the classifier's own.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from raysearch.errors import InputError
from raysearch.models.head import Pool, make_head, projection
from raysearch.models.normalization import IMAGENET_MEAN, IMAGENET_STD
from raysearch.models.registry import backbone_spec
from raysearch.models.transfer import laid_out, to_device
from raysearch.recipe import Recipe

NOT_BLOCKS = ("pool", "head")


def build_classifier(recipe: Recipe, n_classes: int) -> nn.Sequential:
    """Blocks, `pool` and `head` of the recipe, in this order, fp32 on the CPU; logits have shape (n, n_classes).

    All weights are first weights drawn from `recipe.seed` (pretrained ones come from `raysearch.models.weights`). They
    stay in torchvision's layout: convolutions follow their input's (`prepare` says channels_last, which is what is
    fast), and in another layout of their own the last bits would not be torchvision's.

    Raises:
        InputError: the backbone is unknown, has fewer blocks than the schedule opens, or needs larger images.
    """
    spec = backbone_spec(recipe.backbone)
    if problems := spec.problems(image_size=recipe.image_size, depth=recipe.depth):
        raise InputError(problems)
    pool = Pool(recipe.pooling, spec.tokens)
    head = make_head(pool.features(spec.channels), recipe.head, n_classes, recipe.seed)
    children: OrderedDict[str, nn.Module] = OrderedDict(spec.build_blocks(recipe.seed))
    children |= {"pool": pool, "head": head}
    return nn.Sequential(children)


def block_names(classifier: nn.Sequential) -> tuple[str, ...]:
    """The backbone's blocks in a classifier, from input to output."""
    return tuple(name for name, _ in classifier.named_children() if name not in NOT_BLOCKS)


def cut(classifier: nn.Sequential, depth: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Prefix and suffix over the classifier's own children: the suffix holds the last `depth` blocks, pool and head.

    At depth 0 the pooling has nothing to train and is the prefix's, so that the boundary is one vector an image.

    Raises:
        InputError: the backbone has fewer blocks than `depth`.
    """
    names = block_names(classifier)
    if not 0 <= depth <= len(names):
        raise InputError(f"depth {depth}: the backbone has {len(names)} blocks ({', '.join(names)})")
    opened = {*names[len(names) - depth :], "head"} | ({"pool"} if depth else set())
    prefix: OrderedDict[str, nn.Module] = OrderedDict()
    suffix: OrderedDict[str, nn.Module] = OrderedDict()
    for name, child in classifier.named_children():
        (suffix if name in opened else prefix)[name] = child
    return nn.Sequential(prefix), nn.Sequential(suffix)


def up_to_embedding(classifier: nn.Sequential) -> nn.Sequential:
    """What makes the vectors (n, width) by which images are compared, over the classifier's own children.

    That are the pooled features, or the embeddings of an embedding head.
    """
    prefix, suffix = cut(classifier, 0)
    head = suffix[-1]
    assert isinstance(head, nn.Sequential)
    return nn.Sequential(*prefix, *projection(head))


def pin(prefix: nn.Sequential) -> nn.Sequential:
    """Freezes in place, and returns, a prefix: no gradients, and BatchNorm in inference mode so that nothing drifts."""
    return prefix.eval().requires_grad_(False)


def train_mode(suffix: nn.Sequential, *, batch_norm: bool) -> None:
    """Training mode of a suffix; BatchNorm keeps its statistics (inference mode) unless `batch_norm`."""
    suffix.train()
    if not batch_norm:
        for module in suffix.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def prepare(images: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """uint8 images (n, h, w, 3) as the network sees them: float32 (n, 3, h, w), `laid_out`, ImageNet-normalised.

    Bytes travel to the device, a quarter of what floats would be.
    """
    moved = to_device(images, device)
    if moved.dtype != torch.uint8 or moved.ndim != 4 or moved.shape[3] != 3:
        raise ValueError(f"images must be uint8 of shape (n, h, w, 3), got {moved.dtype} of {tuple(moved.shape)}")
    scale, shift = _scale_and_shift(device)
    # Permuted bytes of an image already lie channels_last, and arithmetic keeps the layout.
    return laid_out(moved.permute(0, 3, 1, 2).float().mul_(scale).add_(shift), device)


@cache
def _scale_and_shift(device: torch.device) -> tuple[Tensor, Tensor]:
    """The two for which byte * scale + shift = (byte / 255 - mean) / std, a channel each."""
    mean, std = torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1)
    return (1 / (255 * std)).to(device), (-mean / std).to(device)
