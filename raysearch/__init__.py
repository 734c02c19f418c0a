"""Finds out how to fine-tune an image classifier, by trying."""

import os

# OpenMP reads these when torch loads it, so they come first. Its threads spin while they wait for each other, and on a
# busy machine that takes the core from the very thread that they wait for (benchmarks/threads.py). Threads that sleep
# at once are slow to wake on a quiet one; these spin for some microseconds first.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
