"""Whether a range test pays: the demo's search with learning rates bounded by one, and without.

    python benchmarks/lr_find.py [--seeds 0 1 2] [-- FLAGS OF raysearch.tune]

Both are `python -m raysearch.tune --space fine_tune --preset quick`, the one with Search(lr_find=True), one after the
other, the order alternating; the same trials, epochs and seeds. Prints one JSON line: test accuracy of the winner (mean
of its refits) over the seeds, and seconds of the whole process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from demo import search
from machine import machine

from raysearch.space.names import find_space


def with_range_test(folder: Path) -> Path:
    """A copy of fine_tune that bounds its learning rates by a range test."""
    text = find_space("fine_tune").read_text(encoding="utf-8")
    asked = text.replace("search = Search(", "search = Search(lr_find=True, ")
    if asked == text:
        raise RuntimeError("fine_tune.py has no `search = Search(` any more")
    (folder / "fine_tune_lr_find.py").write_text(asked, encoding="utf-8")
    return folder / "fine_tune_lr_find.py"


def main() -> None:
    """Run the searches one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("flags", nargs="*", default=[], help="of raysearch.tune")
    options = parser.parse_args()
    rows: dict[str, list[dict[str, Any]]] = {"plain": [], "lr_find": []}
    with tempfile.TemporaryDirectory(prefix="raysearch-lr-find-") as folder:
        spaces = {"plain": "fine_tune", "lr_find": str(with_range_test(Path(folder)))}
        for place, seed in enumerate(options.seeds):
            for arm in list(spaces)[:: 1 if place % 2 == 0 else -1]:
                rows[arm].append(search(seed, options.flags, spaces[arm]))
                print(arm, json.dumps(rows[arm][-1]), file=sys.stderr)
    figures = {
        arm: {
            "winner_mean": round(statistics.fmean(row["winner"]["mean"] for row in of_arm), 4),
            "winners": [row["winner"]["mean"] for row in of_arm],
            "seconds": [row["seconds"] for row in of_arm],
        }
        for arm, of_arm in rows.items()
    }
    print(json.dumps({"benchmark": "lr_find", "seeds": options.seeds, **figures, "machine": machine()}))


if __name__ == "__main__":
    main()
