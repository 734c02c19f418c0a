"""The same search as a script written from Ray Tune's guides: time ratio peer/us, and both test accuracies.

    python benchmarks/peer.py [--peer PATH/TO/plain_tune.py] [--seeds 0 1 2] [--trials 16] [--max-epochs 8]

Same images, weights, trials, epochs at most, batch size, ranges (benchmarks/peer_space.py) and concurrency; refits off.
For each seed the two run one after the other, the order alternating, as whole processes from start to exit, so that
start-up and the test evaluation count on both sides. Run it alone on the machine. Prints one JSON line.
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

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ASSETS = ROOT / "raysearch" / "assets"
IMAGES, WEIGHTS = ASSETS / "cifar10-mini.zip", ASSETS / "densenet121_cifar100.safetensors"
PEER = ROOT.parent / "shared" / "peers" / "plain_tune.py"

Figures = dict[str, Any]


def timed(command: list[str]) -> tuple[float, str]:
    """Wall seconds of the whole process, and what it printed.

    Raises:
        RuntimeError: it failed; its error output is in the message.
    """
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} exited with {done.returncode}:\n{done.stderr[-4000:]}")
    return seconds, done.stdout


def run_peer(options: argparse.Namespace, seed: int) -> Figures:
    """The peer's own report, and its wall seconds."""
    flags = {
        "data": IMAGES,
        "weights": WEIGHTS,
        "trials": options.trials,
        "epochs": options.max_epochs,
        "concurrent": options.concurrent,
        "seed": seed,
    }
    seconds, output = timed([sys.executable, str(options.peer), *as_flags(flags)])
    report = json.loads(output.strip().splitlines()[-1])
    return {"wall_seconds": seconds, **report}


def run_ours(options: argparse.Namespace, seed: int) -> Figures:
    """Wall seconds of the command, and what its run folder says."""
    with tempfile.TemporaryDirectory(prefix="raysearch-peer-") as folder:
        flags = {
            "space": HERE / "peer_space.py",
            "data": IMAGES,
            "weights": WEIGHTS,
            "backbone": "densenet121",
            "image-size": 32,
            "trials": options.trials,
            "max-epochs": options.max_epochs,
            "concurrent": options.concurrent,
            "refits": 0,
            "seed": seed,
            "results": folder,
            "run-name": "ours",
        }
        seconds, _ = timed([sys.executable, "-m", "raysearch.tune", *as_flags(flags)])
        run = Path(folder) / "ours"
        trials = pd.read_csv(run / "trials.csv")
        heads = pd.read_csv(run / "heads.csv")
        evaluation = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    return {
        "wall_seconds": seconds,
        "trials": len(trials),
        "errors": int((trials["state"] == "failed").sum()),
        "trial_epochs": int(trials["epochs"].sum()),
        "head_epochs": int(heads["epochs"].sum()),
        "val": float(trials["val_accuracy"].max()),
        "test": evaluation["test"]["accuracy"]["mean"],
    }


def as_flags(values: dict[str, Any]) -> list[str]:
    """{"max-epochs": 8} -> ["--max-epochs", "8"]."""
    return [word for name, value in values.items() for word in (f"--{name}", str(value))]


def main() -> None:
    """Run both for every seed and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, default=PEER, help="the peer script")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--max-epochs", type=int, default=8)
    parser.add_argument("--concurrent", type=int, default=2)
    options = parser.parse_args()
    if not options.peer.is_file():
        parser.exit(2, f"--peer {options.peer}: no such file; say where the peer script is\n")
    options.peer = options.peer.resolve()
    rows = []
    for number, seed in enumerate(options.seeds):
        arms = {"peer": run_peer, "ours": run_ours}
        order = ["peer", "ours"] if number % 2 == 0 else ["ours", "peer"]
        found = {arm: arms[arm](options, seed) for arm in order}
        ratio = found["peer"]["wall_seconds"] / found["ours"]["wall_seconds"]
        rows.append({"seed": seed, "first": order[0], "ratio": round(ratio, 2), **found})
        print(json.dumps(rows[-1]), file=sys.stderr)
    total = {arm: sum(row[arm]["wall_seconds"] for row in rows) for arm in ("peer", "ours")}
    summary = {
        "benchmark": "peer",
        "trials": options.trials,
        "max_epochs": options.max_epochs,
        "ratio": round(total["peer"] / total["ours"], 2),
        "ratios": [row["ratio"] for row in rows],
        "test_peer": round(statistics.mean(row["peer"]["test"] for row in rows), 4),
        "test_ours": round(statistics.mean(row["ours"]["test"] for row in rows), 4),
        "machine": machine(),
        "runs": rows,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
