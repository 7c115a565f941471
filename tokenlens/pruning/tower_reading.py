"""Reading of the vision tower: the values that scorers and disposals receive."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class TowerReading(NamedTuple):
    """Values of the vision tower for each token of the padded input; zero for text.

    Attributes:
        importance: [batch, length], in float32, float64 for a float64 model.
        keys: [batch, length, size], in the same type.
        macs: multiply-accumulates of reading it, float64 [batch].
    """

    importance: Tensor
    keys: Tensor
    macs: NDArray[np.float64]
