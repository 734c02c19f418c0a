"""The networks that a search chooses among, with their weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raysearch.errors import InputError, Problems
from raysearch.models.registry import backbone_spec
from raysearch.models.shelf import Shelf
from raysearch.models.weights import Weights, load_weights
from raysearch.recipe import named_network, network_name
from raysearch.record.info import RunInfo


@dataclass(frozen=True, eq=False)
class Networks:
    """Several networks, each with its weights, the default's first."""

    weights: dict[str, Weights]
    """By NAME=WEIGHTS, where WEIGHTS loads the same again."""
    shelf: Shelf
    """The same, as benches read them."""
    left_out: tuple[str, ...] = ()
    """Of those at hand, which cannot be used, and why."""

    @property
    def names(self) -> tuple[str, ...]:
        """As NAME=WEIGHTS."""
        return tuple(self.weights)

    @classmethod
    def load(cls, named: Sequence[str], weights: str, seed: int, *, at_hand: bool = False) -> Networks:
        """Load what is named.

        Args:
            named: networks, as NAME or NAME=WEIGHTS.
            weights: of those without.
            seed: draws random weights.
            at_hand: whether what cannot be used is left out, instead of refused: nobody has named it.

        Raises:
            InputError: all that cannot be had, together.
        """
        problems, left_out = Problems(), list[str]()
        found: dict[str, Weights] = {}
        names: dict[str, str] = {}
        for one in named:
            backbone, own = named_network(one)
            try:
                loaded = load_weights(backbone, own or weights, seed)
            except InputError as error:
                reasons = [f"{one}: {problem}" for problem in error.problems]
                left_out += reasons if at_hand else []
                problems.found += [] if at_hand else reasons
                continue
            name = network_name(backbone, loaded.again)
            if name in names:
                problems.check(at_hand, f"backbone: {names[name]} and {one} are one network, {name}; name it once")
                continue
            names[name], found[name] = one, loaded
        problems.stop_if_any()
        if not found:
            raise InputError(["no network can be used", *left_out])
        return cls(found, _shelf(found, seed), tuple(left_out))

    def that_take(self, image_size: int, seed: int, *, at_hand: bool) -> Networks:
        """Those that take images of this size.

        Raises:
            InputError: some do not, and were named; or none does.
        """
        wrong = {
            name: problems
            for name in self.weights
            if (problems := backbone_spec(named_network(name)[0]).problems(image_size=image_size, depth=0))
        }
        reasons = [problem for problems in wrong.values() for problem in problems]
        if wrong and (not at_hand or len(wrong) == len(self.weights)):
            raise InputError(reasons)
        left = {name: one for name, one in self.weights.items() if name not in wrong}
        return Networks(left, _shelf(left, seed), (*self.left_out, *reasons))

    def changed_since(self, info: RunInfo) -> list[str]:
        """The networks whose weights are not those that a run was started with."""
        before = {one["network"]: one["digest"] for one in info.get("networks", [])}
        return [name for name, one in self.weights.items() if before.get(name) != one.digest]


def _shelf(weights: dict[str, Weights], seed: int) -> Shelf:
    shelf = Shelf(seed)
    for name, one in weights.items():
        shelf.put(named_network(name)[0], one)
    return shelf
