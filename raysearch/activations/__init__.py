"""Boundary activations: what the frozen prefix makes of the images, and all that the training loop sees of them."""
