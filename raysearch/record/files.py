"""What the files of a run folder are called."""

LOG = "log.jsonl"
"""Every event, a line each; see `raysearch.record.events`."""
CHECKPOINTS = "checkpoints"
"""The folder of the trials' own folders."""
BEST, LAST = "best.safetensors", "last.pt"
"""A trial's files, in the order in which they are written: a kill between them costs an epoch, never a checkpoint."""
