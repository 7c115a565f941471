"""The plain tensors that a weight is made of: quantised ones hold values, scales and more."""

from collections.abc import Iterator

from torch import Tensor


def plain_parts(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Name and values of the plain tensors in a weight; an ordinary one is its own only part.

    Weights of torchao and optimum-quanto are subclasses of a tensor, which many operations of torch
    do not take; what they hold are plain tensors.
    """
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None:
        yield name, tensor
        return
    for part in flatten()[0]:
        yield from plain_parts(f"{name}.{part}", getattr(tensor, part))


def kind_of(tensor: Tensor) -> str | None:
    """What a weight of several parts does with them, as text; None for an ordinary one.

    Two quantised weights may hold the same values, and one of them quantise activations as well.
    """
    flatten = getattr(tensor, "__tensor_flatten__", None)
    return None if flatten is None else f"{type(tensor).__qualname__} {flatten()[1]}"
