"""Divergence between the next-token distributions of two models."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def kl_divergence(reference: ArrayLike, other: ArrayLike) -> Floats:
    """Kullback-Leibler divergence of `other` from `reference`, in nats: float64 [...].

    Args:
        reference: logits [..., vocabulary], finite.
        other: logits of the same shape.

    Raises:
        ValueError: the shapes differ.

    >>> kl_divergence([[0.0, 0.0]], [[0.0, 0.0]]).tolist()
    [0.0]
    """
    first, second = _log_probabilities(reference), _log_probabilities(other)
    if first.shape != second.shape:
        raise ValueError(f"other: got shape {second.shape}, expected {first.shape}")
    divergence: Floats = (np.exp(first) * (first - second)).sum(axis=-1)
    return np.maximum(divergence, 0.0)  # negative only by rounding


def same_top(reference: ArrayLike, other: ArrayLike) -> Floats:
    """1 where both logits [..., vocabulary] have their highest at the same token, else 0: [...].

    >>> same_top([[1.0, 2.0], [2.0, 1.0]], [[0.0, 9.0], [0.0, 9.0]]).tolist()
    [1.0, 0.0]
    """
    one, two = np.asarray(reference).argmax(axis=-1), np.asarray(other).argmax(axis=-1)
    return np.asarray(one == two, dtype=np.float64)


def _log_probabilities(logits: ArrayLike) -> Floats:
    values = np.asarray(logits, dtype=np.float64)
    shifted = values - values.max(axis=-1, keepdims=True)
    normalised: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normalised
