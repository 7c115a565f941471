"""Looking over the shoulder of a model's attention function, without another one in its place.

transformers finds attention functions and the masks made for them by the name in the model's
configuration. While anything is observed, the function under that name is one that first shows
its arguments to the observers and then calls the original. The name itself stays, so everything
that hangs on it stays too: the mask built for that name, the kernel that FlashAttention loads, the
special cases in a family's own code. The model's output is therefore the same bits, and no
configuration is touched.
"""

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tokenlens.errors import ProbeError

Observer = Callable[[nn.Module, Tensor, Tensor, Tensor, Any, dict[str, Any]], None]
"""Called before each attention with the module, query [batch, heads, rows, head_dim], key and value
[batch, key_value_heads, keys, head_dim] (after rotary and cache update, not repeated), the mask as
the attention function gets it, and the remaining keyword arguments."""

Receiver = Callable[[nn.Module, Tensor], None]
"""Called after each attention with the module and what it gave, [batch, rows, heads, head_dim]."""

_receivers: ContextVar[tuple[Receiver, ...]] = ContextVar("tokenlens_receivers", default=())
_observers: ContextVar[tuple[Observer, ...]] = ContextVar("tokenlens_observers", default=())
_whole: ContextVar[bool] = ContextVar("tokenlens_whole", default=True)
_lock = threading.Lock()


def note_tokens(*, whole: bool) -> None:
    """Say whether what runs now in this context runs on the tokens that the model was given."""
    _whole.set(whole)


def tokens_are_whole() -> bool:
    """Whether layers run on the tokens the model was given, not on those that pruning left."""
    return _whole.get()


def is_observing(observer: Observer) -> bool:
    """Whether `observer` was set in this context: another thread's forward is not its business."""
    return observer in _observers.get()


@contextmanager
def observe_attention(
    implementation: str, observer: Observer, receiver: Receiver | None = None
) -> Iterator[None]:
    """Show `observer` every attention call that this context makes through `implementation`.

    Args:
        implementation: The name in the decoder's configuration: `sdpa`, `eager`,
            `flash_attention_2`, or any registered other.
        observer: What it is shown to.
        receiver: What its result is shown to, if any.
    """
    observed = _install(implementation)
    try:
        _observers.set((*_observers.get(), observer))
        if receiver is not None:
            _receivers.set((*_receivers.get(), receiver))
        yield
    finally:
        _receivers.set(tuple(one for one in _receivers.get() if one is not receiver))
        _observers.set(tuple(one for one in _observers.get() if one is not observer))
        _release(observed)


@dataclass(eq=False)
class _ObservedAttention:
    """The attention function `name`, shown to the observers of the calling context."""

    name: str
    original: Callable[..., Any] | None
    users: int = 0

    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Any = None,
        **options: Any,
    ) -> Any:
        for observer in _observers.get():
            observer(module, query, key, value, attention_mask, options)
        function = self.original or _eager_function(module)
        result = function(module, query, key, value, attention_mask, **options)
        for receiver in _receivers.get():
            receiver(module, result[0])
        return result


def _install(name: str) -> _ObservedAttention:
    with _lock:
        observed = ALL_ATTENTION_FUNCTIONS.get(name)
        if not isinstance(observed, _ObservedAttention):
            observed = _ObservedAttention(name, observed)
            ALL_ATTENTION_FUNCTIONS[name] = observed
        observed.users += 1
        return observed


def _release(observed: _ObservedAttention) -> None:
    with _lock:
        observed.users -= 1
        if observed.users == 0 and ALL_ATTENTION_FUNCTIONS.get(observed.name) is observed:
            del ALL_ATTENTION_FUNCTIONS[observed.name]
            if ALL_ATTENTION_FUNCTIONS.get(observed.name) is not observed.original:
                ALL_ATTENTION_FUNCTIONS[observed.name] = observed.original


def _eager_function(module: nn.Module) -> Callable[..., Any]:
    """Eager attention is registered nowhere: it is what the module's forward falls back on."""
    forward = inspect.unwrap(type(module).forward)
    for name in forward.__code__.co_names:
        if name.endswith("eager_attention_forward"):
            eager: Callable[..., Any] = forward.__globals__[name]
            return eager
    raise ProbeError(
        f"{type(module).__name__} has no eager attention function that could be observed; load the "
        "model with attn_implementation='sdpa'"
    )
