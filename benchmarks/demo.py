"""The demo over several search seeds: the winner's test accuracy (mean of its refits) beside default and head.

    python benchmarks/demo.py [--seeds 0 1 2] [-- FLAGS OF raysearch.tune]

Each seed is one `python -m raysearch.tune --space fine_tune --preset quick`, timed as a whole process, refits and
evaluation included. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
from machine import machine


def search(seed: int, flags: list[str], space: str = "fine_tune") -> dict[str, Any]:
    """One search: its seconds, its trials, and the three test accuracies."""
    with tempfile.TemporaryDirectory(prefix="raysearch-demo-") as folder:
        command = [sys.executable, "-m", "raysearch.tune", "--space", space, "--preset", "quick", "--quiet"]
        began = time.perf_counter()
        flags = ["--seed", str(seed), "--results", folder, "--run-name", "demo", *flags]
        subprocess.run([*command, *flags], check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
        run = Path(folder) / "demo"
        evaluation = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
        trials = pd.read_csv(run / "trials.csv")
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "trials": len(trials),
        "winner": evaluation["test"]["accuracy"],
        "optimism": evaluation["optimism"],
        **{name: other["test"]["accuracy"]["mean"] for name, other in evaluation["others"].items()},
    }


def main() -> None:
    """Run the searches one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("flags", nargs="*", default=[], help="of raysearch.tune")
    options = parser.parse_args()
    rows = []
    for seed in options.seeds:
        rows.append(search(seed, options.flags))
        print(json.dumps(rows[-1]), file=sys.stderr)
    means = [row["winner"]["mean"] for row in rows]
    figures = {
        "winner_mean": round(statistics.fmean(means), 4),
        "winner_over_seeds": means,
        "default_mean": round(statistics.fmean(row["default"] for row in rows), 4),
        "head_mean": round(statistics.fmean(row["head"] for row in rows), 4),
        "seconds": [row["seconds"] for row in rows],
    }
    print(json.dumps({"claim": "demo", **figures, "searches": rows, "machine": machine()}))


if __name__ == "__main__":
    main()
