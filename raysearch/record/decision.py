"""Which class an answer names: the likeliest, or of two classes the second from a probability on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def decided(
    probabilities: NDArray[np.floating], threshold: float | NDArray[np.float64] | None = None
) -> NDArray[np.int64]:
    """The class of each answer, integer (n,), of probabilities (n, classes).

    Args:
        probabilities: calibrated, if a threshold was chosen of such.
        threshold: of two classes: from which probability of the second on it is the answer, of all images or of each,
            (n,); None: the likeliest is.
    """
    if threshold is None:
        return probabilities.argmax(axis=1).astype(np.int64)
    return (probabilities[:, 1] >= threshold).astype(np.int64)
