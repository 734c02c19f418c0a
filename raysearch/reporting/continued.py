"""What a continued search says of the run before: how its classes are told now, on its test images."""

from __future__ import annotations

from raysearch.record.evaluation import Change, ContinuedFigures, EvaluationDocument
from raysearch.reporting.elements import Table, percent

_LEVEL = 0.05


def continued_sentences(evaluation: EvaluationDocument) -> list[str]:
    """What has been forgotten, or gained, in sentences; none where no run is continued."""
    found = evaluation.get("continued")
    if found is None:
        return []
    told = [
        f"On the {found['images']:,} test images of {found['run']}, of classes that both know: "
        f"{_told(found['accuracy'])}; {_verdict(found['accuracy'])}."
    ]
    if found["new"]:
        told.append(
            f"New are {', '.join(found['new'])}: {percent(found['called_new'])} of those images are taken for one of "
            "them."
        )
    lost = [name for name, change in found["per_class"].items() if _surely(change) and change["change"] < 0]
    if lost:
        told.append(f"Told surely worse than before: {', '.join(lost)}. More images of them in --data would help.")
    if found["gone"]:
        told.append(f"No images of {', '.join(found['gone'])} were given: nothing is called so any more.")
    return told


def continued_table(evaluation: EvaluationDocument) -> Table | None:
    """Each old class before and after."""
    found: ContinuedFigures | None = evaluation.get("continued")
    if found is None:
        return None
    rows = [
        [name, str(change["images"]), f"{change['before']:.3f}", f"{change['after']:.3f}", _points(change)]
        for name, change in found["per_class"].items()
    ]
    return Table(["class", "test images", f"right in {found['run']}", "right now", "change, points"], rows)


def _told(change: Change) -> str:
    return f"accuracy {change['before']:.4f} before, {change['after']:.4f} now, {_points(change)} points"


def _points(change: Change) -> str:
    if change["low"] is None or change["high"] is None:
        return f"{100 * change['change']:+.1f}"
    return f"{100 * change['change']:+.1f} [{100 * change['low']:+.1f}, {100 * change['high']:+.1f}]"


def _verdict(change: Change) -> str:
    if not _surely(change):
        return "a difference that chance explains"
    return "something was forgotten" if change["change"] < 0 else "they are told better than before"


def _surely(change: Change) -> bool:
    """Whether chance does not explain it: by its test, or in runs from before that by an interval of some width."""
    if "p" in change:
        return change["p"] < _LEVEL
    low, high = change["low"], change["high"]
    return low is not None and high is not None and low < high and (high < 0 or low > 0)
