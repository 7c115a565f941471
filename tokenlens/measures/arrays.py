"""Input of the measures: importance as arrays, of one sample or of many."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def per_sample(arrays: Any, ndim: int = 2) -> Iterator[Any]:
    """Iterate over the samples of `arrays`, which is one array of `ndim` axes or many of them."""
    return iter([arrays] if _depth(arrays) == ndim else arrays)


def plain_array(values: Any) -> NDArray[Any]:
    """`values` as a numpy array; tensors may require gradients, be bfloat16 or be on a device."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.double() if values.is_floating_point() else values
    return np.asarray(values)


def importance_array(importance: ArrayLike) -> NDArray[np.float64]:
    """Importance of one sample as float64 [layers, n_visual]; `ValueError` for anything else."""
    array = plain_array(importance).astype(np.float64)
    if array.ndim != 2 or 0 in array.shape or not np.isfinite(array).all():
        raise ValueError(
            f"importance: got shape {array.shape}, expected finite numbers in [layers, n_visual], "
            "at least one of each"
        )
    return array


def top_ranks(importance: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rank of each token in its layer, 0 for the most important, ties to the lower position.

    >>> top_ranks(np.array([[0.2, 0.5, 0.2]])).tolist()
    [[1, 0, 2]]
    """
    order = np.argsort(-importance, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(order.shape[1])[None], axis=1)
    return ranks


def top_count(share: float, n_visual: int) -> int:
    """Number of tokens in a top share: rounded half up, at least one.

    >>> top_count(0.2, 144), top_count(0.01, 10)
    (29, 1)
    """
    if not 0 < share <= 1:
        raise ValueError(f"top: got {share!r}, expected a share in (0, 1]")
    return max(1, math.floor(share * n_visual + 0.5))


def _depth(nested: Any) -> int:
    """Axes of an array, or of lists of arrays or numbers."""
    return 1 + _depth(nested[0]) if isinstance(nested, list | tuple) and nested else np.ndim(nested)
