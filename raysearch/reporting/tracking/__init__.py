"""Shows a search elsewhere (Weights & Biases, TensorBoard) by reading its log, in a process of its own.

Nothing in a search waits for it: the log is written whether anybody reads it or not, and can be shown later too.
"""
