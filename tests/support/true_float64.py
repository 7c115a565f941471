"""A float64 model made to compute in float64 throughout.

transformers takes norms, rotary angles, attention weights and generated logits in float32 whatever
the model's dtype. Then two ways of computing the same thing differ by 1e-7, or look alike because
both were rounded. Inside `true_float64` whatever asks torch for float32 gets float64.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


class _Widen(TorchFunctionMode):
    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if function is Tensor.float:
            function = Tensor.double
        kwargs = {name: _wide(value) for name, value in (kwargs or {}).items()}
        return function(*map(_wide, args), **kwargs)


def _wide(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


@contextmanager
def true_float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Widen():
            yield
    finally:
        torch.set_default_dtype(before)


class Float32Seen(TorchDispatchMode):
    """Counts the float32 tensors of more than one dimension that operations return."""

    count = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor) and value.dtype == torch.float32 and value.ndim > 1:
                self.count += 1
        return result
