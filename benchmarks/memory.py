"""Peak resident memory of the driver and of a trial actor, over a whole search on the bundled images.

    python benchmarks/memory.py [-- FLAGS OF raysearch.tune]

Samples every process of the search ten times a second; shared pages count in each of them. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time

import psutil
from machine import machine

DEFAULT = ["--space", "fine_tune", "--preset", "quick", "--trials", "4", "--refits", "0", "--quiet"]


def peaks(command: list[str]) -> tuple[dict[str, float], float, int]:
    """Peak MiB by kind of process, wall seconds and exit code of a command."""
    began = time.perf_counter()
    search = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    driver, found = psutil.Process(search.pid), {"driver": 0.0, "trial_actor": 0.0}
    while search.poll() is None:
        for process in (driver, *children(driver)):
            try:
                resident, kind = process.memory_info().rss / 2**20, process.cmdline()
            except psutil.Error:
                continue
            name = "driver" if process.pid == driver.pid else "trial_actor" if "TrialActor" in " ".join(kind) else ""
            if name:
                found[name] = max(found[name], resident)
        time.sleep(0.1)
    return found, time.perf_counter() - began, search.returncode


def children(driver: psutil.Process) -> list[psutil.Process]:
    """Of the driver, at any depth; none once it has ended."""
    try:
        return driver.children(recursive=True)
    except psutil.Error:
        return []


def main() -> None:
    """Run the search, sample it, print the peaks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flags", nargs="*", default=DEFAULT, help="of raysearch.tune")
    flags = parser.parse_args().flags
    with tempfile.TemporaryDirectory(prefix="raysearch-memory-") as folder:
        found, seconds, code = peaks([sys.executable, "-m", "raysearch.tune", *flags, "--results", folder])
    if code:
        sys.exit(f"the search exited with {code}")
    figures = {f"{name}_peak_mib": round(value) for name, value in found.items()}
    print(
        json.dumps({"claim": "memory", **figures, "seconds": round(seconds, 1), "flags": flags, "machine": machine()})
    )


if __name__ == "__main__":
    main()
