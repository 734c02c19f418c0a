"""Labels as they are compared: a class under two spellings is joined where that is certain, and named elsewhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from raysearch.data.account import Doubt
from raysearch.data.names import loose_form, same_form


def unify(labels: Sequence[str], splits: Sequence[str]) -> tuple[list[str], list[Doubt]]:
    """One spelling for each class, and what is doubtful about it.

    Labels that differ in their Unicode form only are one class, spelt as it is met first. So is a class of val or test
    that no training image has, if exactly one class of train differs from it in case, blanks, hyphens and underscores
    alone. Two such classes of train stay two.

    Args:
        labels: shape (n,).
        splits: train, val, test or "", shape (n,).
    """
    known: dict[str, str] = {}
    spelt = {label: known.setdefault(same_form(label), label) for label in dict.fromkeys(labels)}
    doubts = []
    homes: dict[str, set[str]] = defaultdict(set)
    for label, split in zip(labels, splits, strict=True):
        homes[spelt[label]].add(split)
    near: dict[str, list[str]] = defaultdict(list)
    for label, found in homes.items():
        if found & {"", "train"}:
            near[loose_form(label)].append(label)
    for several in near.values():
        if len(several) > 1:
            told = f"The classes {' and '.join(map(repr, sorted(several)))} differ in hardly more than their case."
            doubts.append(Doubt(told, "Join them, if they are one class."))
    for label in [label for label, found in homes.items() if not found & {"", "train"}]:
        meant = near.get(loose_form(label), [])
        if len(meant) == 1:
            spelt |= {one: meant[0] for one, now in spelt.items() if now == label}
            where = " and ".join(sorted(homes[label]))
            doubts.append(Doubt(f"{label!r} in {where} is taken for the class {meant[0]!r} of train.", ""))
    return [spelt[label] for label in labels], doubts


def matched(names: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """The class that each name means among those that are known: the same one, or the only one spelt nearly so.

    Names that mean none of them are missing. "Nearly" is as of `unify`.
    """
    found = {}
    for name in names:
        for form in (str, same_form, loose_form):
            meant = [one for one in known if form(one) == form(name)]
            if len(meant) == 1:
                found[name] = meant[0]
                break
    return found
