"""What a search is asked to be about: the flags, and what stands for those that were not typed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

from raysearch.data.pixels import MIN_IMAGE_SIZE
from raysearch.errors import InputError
from raysearch.job.flags import Flags
from raysearch.models.registry import usable_spec
from raysearch.recipe import AT_HAND, NATIVE, SHARED, Fit, Shared, named_network
from raysearch.record.metric import parts
from raysearch.space.networks import in_sizes, native_size, networks_at_hand
from raysearch.space.space import Space


@dataclass(frozen=True)
class Wanted:
    """Flags of which each has a default, or may be given by the space."""

    data: str = "cifar10-mini"
    backbone: str = "densenet121"
    weights: str = "auto"
    metric: str | None = None
    """None: the space's."""
    device: str = "auto"
    fit: Fit = "squash"
    image_size: int | Literal["native"] | None = None
    """pixels; native: what each network was trained with; None: the images' own."""
    seed: int = 0
    networks: tuple[str, ...] = ()
    """Those that were typed, as NAME[=WEIGHTS][@PX], or that the space chooses among; `backbone` is the first."""
    native: bool = False
    """Whether each network sees the size that it was trained with, unless it names another."""

    @classmethod
    def of(cls, flags: Flags) -> Wanted:
        """What was typed; for the rest, the defaults.

        Raises:
            InputError: see `typed_networks`.
        """
        typed = {field.name: getattr(flags, field.name) for field in fields(cls) if hasattr(flags, field.name)}
        if flags.metric is not None:  # several are written in one way, whatever was typed between them
            typed["metric"] = ",".join(parts(flags.metric))
        wanted = cls(**{name: value for name, value in typed.items() if value is not None})
        names = [] if flags.backbone is None else typed_networks(flags.backbone, wanted.weights)
        if wanted.image_size == NATIVE:
            wanted = replace(wanted, native=True)
            names = in_sizes(names or [wanted.backbone], [NATIVE])
        return wanted.over(names) if names else wanted

    def over(self, networks: Sequence[str]) -> Wanted:
        """The same, choosing among these networks, or with the only one."""
        backbone, weights, size = named_network(networks[0])
        if size == NATIVE and usable_spec(backbone) is not None:
            size = native_size(backbone)
        own = self.image_size if self.image_size != NATIVE else None
        several = tuple(networks) if len(networks) > 1 else ()
        return replace(
            self,
            backbone=backbone,
            weights=weights or self.weights,
            image_size=own if size is None else size,
            networks=several,
        )

    def within(self, space: Space) -> Wanted:
        """The same, with what the space itself says."""
        fixed = {name: space.tree[name] for name in SHARED if space.tree.get(name) is not None}
        found = replace(self, **fixed)
        if not space.networks:
            if not self.native or "image_size" in fixed:
                return found
            return replace(found, image_size=None).over([f"{found.backbone}@{NATIVE}"])
        names = in_sizes(space.networks, [NATIVE] if self.native else [])
        return replace(found.over(names), networks=tuple(names))

    @property
    def shared(self) -> Shared:
        """What a space is checked with; a number that is refused elsewhere is replaced by one that no space refuses.

        The image size may be the images' own, which is not known yet: a space does not depend on it.
        """
        return {
            "backbone": self.backbone,
            "weights": self.weights,
            "image_size": max(MIN_IMAGE_SIZE, self.image_size) if isinstance(self.image_size, int) else 32,
            "fit": self.fit,
            "seed": max(0, self.seed),
        }


def typed_networks(backbone: str, weights: str) -> list[str]:
    """The networks of --backbone NAME[=WEIGHTS],…, or those at hand.

    Raises:
        InputError: no weights are at hand where those are asked for, or nothing is named.
    """
    if backbone == AT_HAND:
        return networks_at_hand(weights)
    named = [one.strip() for one in backbone.split(",") if one.strip()]
    if not named:
        raise InputError(f"--backbone {backbone!r}: name a network, or several: densenet121,resnet18")
    return named
