"""An attention module's projections, made to compute only what is read of them.

The rest of the layer's own code runs unchanged: its input norm, the norms of queries and keys, and
its rotary embedding, as the family defines them.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from tokenlens.pruning.tokens import put_rows, take_rows

FUSED = "qkv_proj"
"""What a projection of queries, keys and values in one is called, in this order."""


@contextmanager
def without_queries(attention: nn.Module) -> Iterator[None]:
    """Skip the query projection of an attention module while this is open.

    A fused projection that is wrapped, as where accelerate fetches its weights, runs whole.
    """
    with ExitStack() as stack:
        separate = getattr(attention, "q_proj", None)
        if isinstance(separate, nn.Module):
            width = _query_width(attention, separate)
            # in memory of their own: Llama 4 turns pairs of them as complex numbers
            replace_forward(
                stack, separate, lambda states: states.new_zeros(*states.shape[:-1], width)
            )
        elif _sliceable(fused := attention.get_submodule(FUSED)):
            queries = _Widths.of(attention).queries
            replace_forward(
                stack,
                fused,
                lambda states: nn.functional.pad(_part(fused, states, queries), (queries, 0)),
            )
        yield


@contextmanager
def for_scores(attention: nn.Module, order: Tensor | None) -> Iterator[bool]:
    """Project all keys, but queries of few rows alone and no values, while this is open.

    Other rows' queries and all values are zero then. A module whose projections have other names,
    or whose fused one is wrapped or not linear, projects everything.

    Args:
        attention: of a decoder layer.
        order: int64 [batch, rows], the slots of the rows whose queries are read; None for all.

    Yields:
        Whether only that is projected.
    """
    with ExitStack() as stack:
        parts = [getattr(attention, name, None) for name in ("q_proj", "v_proj")]
        fused = getattr(attention, FUSED, None)
        if all(isinstance(part, nn.Module) for part in parts):
            query, value = cast(list[nn.Module], parts)
            width = _one_head(attention, value)
            if order is not None:
                project: Callable[[Tensor], Tensor] = query.forward
                replace_forward(stack, query, lambda states: _spread(project, states, order))
            replace_forward(stack, value, lambda states: _nothing(states, width))
            yield True
        elif isinstance(fused, nn.Module) and _sliceable(fused):
            widths = _Widths.of(attention)
            replace_forward(
                stack, fused, lambda states: _queries_and_keys(fused, states, order, widths)
            )
            yield True
        else:
            yield False


def _sliceable(fused: nn.Module) -> bool:
    """Whether the output of `fused` can be made in parts, from parts of its weights."""
    return type(fused) is nn.Linear and "forward" not in vars(fused)


class _Widths(NamedTuple):
    """Numbers that a fused projection makes of a token for queries, and for keys."""

    queries: int
    keys: int

    @classmethod
    def of(cls, attention: nn.Module) -> "_Widths":
        config, head = cast(Any, attention.config), int(cast(int, attention.head_dim))
        kv_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        return cls(int(config.num_attention_heads) * head, int(kv_heads) * head)


def replace_forward(stack: ExitStack, module: nn.Module, forward: Callable[..., Any]) -> None:
    """Replace the forward function of `module` until `stack` is left."""
    own = vars(module).get("forward")
    module.forward = forward
    if own is None:
        stack.callback(delattr, module, "forward")
    else:
        stack.callback(setattr, module, "forward", own)


def _nothing(states: Tensor, width: int) -> Tensor:
    """Zeros [..., width] for every row of `states`, which take no memory."""
    return states.new_zeros(()).expand(*states.shape[:-1], width)


def _spread(project: Callable[[Tensor], Tensor], states: Tensor, order: Tensor | None) -> Tensor:
    """The projection of the rows `order` of `states` in their places, zero elsewhere."""
    if order is None:
        return project(states)
    order = order.to(states.device)
    rows = project(take_rows(states, order))  # [batch, rows, width]
    spread = rows.new_zeros(*states.shape[:-1], rows.shape[-1])
    put_rows(spread, order, rows)
    return spread


def _queries_and_keys(
    fused: nn.Module, states: Tensor, order: Tensor | None, widths: _Widths
) -> Tensor:
    """Output of a fused projection with no values, and with queries for the rows `order` alone."""
    first, last = widths.queries, widths.queries + widths.keys
    spread = _spread(lambda rows: _part(fused, rows, 0, first), states, order)
    keys = _part(fused, states, first, last)
    return torch.cat([spread, keys, torch.zeros_like(keys)], dim=-1)


def _part(fused: nn.Module, states: Tensor, first: int, last: int | None = None) -> Tensor:
    """The columns `first` to `last` of the output of a linear module."""
    weight, bias = fused.get_parameter("weight"), fused._parameters.get("bias")
    return nn.functional.linear(
        states, weight[first:last], None if bias is None else bias[first:last]
    )


def _one_head(attention: nn.Module, projection: nn.Module) -> int:
    """Width of one head, which is enough of zeros for code that splits by heads."""
    return int(getattr(attention, "head_dim", cast(nn.Linear, projection).out_features))


def _query_width(attention: nn.Module, projection: nn.Module) -> int:
    """Width of the zeros that replace a token's queries, as the code after the projection needs it.

    One head's width is enough where that code splits by heads. A norm over all heads needs the
    full width.
    """
    head = _one_head(attention, projection)
    norm = getattr(getattr(attention, "q_norm", None), "weight", None)
    if norm is None or len(norm) == head:
        return head
    return int(cast(nn.Linear, projection).out_features)
