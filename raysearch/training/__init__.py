"""One stage of one trial: its loop, learning-rate course, metrics and checkpoints, and the hand-over between stages."""
