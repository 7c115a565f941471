"""Clusters around density peaks (DPC-kNN, Rodriguez and Laio 2014, as SparseVLM takes it)."""

import torch
from torch import Tensor


def density_peaks(states: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Cluster tokens by the distance of their hidden states.

    Distances are Euclidean, over the square root of the size. A token's density is the exponential
    of minus the mean squared distance to its `count` nearest tokens, itself among them; its
    separation is the distance to the nearest denser token, or the largest of all distances where
    there is none. Centres are the tokens with the highest density times separation, and every
    other token joins the nearest centre. Ties of any kind go to the earlier token: SparseVLM's
    code adds random noise of up to 1e-6 to the densities instead.

    Args:
        states: floats [tokens, size].
        count: clusters, from 1 to the number of tokens.

    Returns:
        centres: int64 [count], the best first.
        member_of: int64 [tokens], the cluster of each token, as a place in `centres`.

    >>> states = torch.tensor([[0.0], [0.1], [5.0], [5.2], [5.05]])
    >>> density_peaks(states, 2)
    (tensor([2, 0]), tensor([1, 1, 0, 0, 0]))
    """
    distance = _distances(states) / states.shape[1] ** 0.5
    nearest = distance.topk(count, dim=1, largest=False).values  # [tokens, count]
    density = nearest.square().mean(1).neg().exp()
    places = torch.arange(len(states), device=states.device)
    # [tokens, tokens]: at [i, j], whether token j comes before token i in density.
    earlier = (density[None] == density[:, None]) & (places[None] < places[:, None])
    denser = (density[None] > density[:, None]) | earlier
    separation = distance.where(denser, distance.max()).amin(1)
    peaks = (separation * density).argsort(descending=True, stable=True)[:count]
    member_of = distance[:, peaks].argmin(1)  # [tokens], from [tokens, count]
    return peaks, member_of.index_copy(0, peaks, places[:count])


def _distances(states: Tensor) -> Tensor:
    """Euclidean distances [tokens, tokens], from the inner products of the centred states.

    Symmetric to the last bit, which a product of matrices need not be: with two neighbours each,
    two tokens that are nearest to each other are equally dense, and the earlier one must win.
    """
    apart = states - states.mean(0)
    products = apart @ apart.T  # [tokens, tokens]
    products = (products + products.T) / 2
    squares = products.diagonal()
    return (squares[:, None] + squares - 2 * products).clamp(min=0).sqrt()
