"""Finds out how to fine-tune an image classifier, by trying."""

import os

# OpenMP reads these when torch loads it, so they come first. Its threads spin while they wait for each other, for which
# a busy machine has no core to spare: with two processes beside it, a network on two threads took 25 times as long.
# Threads that sleep at once take a fifth longer on a quiet machine; those that spin this long first, a tenth.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
