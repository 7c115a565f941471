"""Importance "value-weighted": attention times the norm of what is attended to.

Attention is only a weight: a token that is attended to with a value near zero adds nothing. What
head h adds to query token q from token j is α_hqj · W_h v_hj, with v_hj the head's value of j and
W_h the columns of the output projection that belong to h. Its Euclidean norm is
α_hqj · ‖W_h v_hj‖: this is the importance of j, as a mean over heads (Kobayashi et al., "Attention
is Not Only a Weight", EMNLP 2020, arXiv 2004.10102, eq. 4). The projection's bias belongs to no
token and is left out.
"""

import torch
from torch import Tensor, nn

from tokenlens.errors import ProbeError
from tokenlens.probing.attention_call import AttentionCall
from tokenlens.probing.importances.importance import RowImportance
from tokenlens.registry import IMPORTANCE_SUMMARIES, IMPORTANCE_UNITS

_NAMES = ("o_proj", "out_proj", "dense", "wo")


def projected_norms(call: AttentionCall, sample: int, positions: Tensor) -> Tensor:
    """‖W_h v_hj‖ of every head and visual token: float32 [heads, n_visual].

    Raises `ProbeError` for attention whose output projection is not found.
    """
    heads = call.query.shape[1]
    value = call.value[sample]  # [key_value_heads, keys, size]
    places = (positions.to(value.device) - call.gone).clamp(min=0)
    values = value[:, places].float()  # [key_value_heads, n_visual, size]
    weight = output_projection(call.module, value, heads * values.shape[-1])
    per_head = weight.float().unflatten(1, (heads, -1))  # [hidden, heads, size]
    groups = heads // len(values)
    norms = [
        torch.linalg.vector_norm(values[head // groups] @ per_head[:, head].T, dim=-1)
        for head in range(heads)
    ]
    return torch.stack(norms)


def output_projection(module: nn.Module, like: Tensor, width: int) -> Tensor:
    """What an attention module's output projection multiplies by: [hidden, width].

    A projection that is adapted, quantised or offloaded is asked: it projects each unit vector of
    the dtype and device of `like`.

    Raises `ProbeError` where there is none of `width` inputs.
    """
    found = (getattr(module, name, None) for name in _NAMES)
    projection = next((one for one in found if isinstance(one, nn.Module)), None)
    if projection is None or getattr(projection, "in_features", None) != width:
        raise ProbeError(
            f"importance 'value-weighted' needs the output projection of {type(module).__name__}, "
            f"a linear layer of {width} inputs; probe with importance='attention'"
        )
    if _plain(projection):
        return projection.get_parameter("weight").detach()
    with torch.no_grad():
        units = torch.eye(width, dtype=like.dtype, device=like.device)
        images: Tensor = projection(units) - projection(torch.zeros_like(units[:1]))
    return images.T


def _plain(projection: nn.Module) -> bool:
    """Whether its output is its weight's product, and the weight is at hand."""
    return (
        type(projection) is nn.Linear
        and type(projection.weight) is nn.Parameter
        and "forward" not in vars(projection)
    )


IMPORTANCE = RowImportance(
    projected_norms,
    summary=IMPORTANCE_SUMMARIES["value-weighted"],
    unit=IMPORTANCE_UNITS["value-weighted"],
    source="Kobayashi et al., EMNLP 2020, arXiv 2004.10102, eq. 4",
)
