"""What was read from the vision tower: a value that scorers and disposals are given."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class TowerReading(NamedTuple):
    """What the tower says of each token of the padded input; zero where it is not visual.

    Attributes:
        importance: [batch, length], in float32, float64 for a float64 model.
        keys: [batch, length, size], likewise.
        macs: multiply-accumulates that reading it took, float64 [batch].
    """

    importance: Tensor
    keys: Tensor
    macs: NDArray[np.float64]
