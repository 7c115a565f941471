"""Knowing, within a forward pass, which `generate()` it is part of and where its prompt ends.

A forward pass cannot be told by its looks: assisted decoding puts draft tokens behind the prompt,
decoding without a cache runs a longer and longer sequence, a chunked prefill runs the prompt in
pieces, guidance runs another prompt beside it, and a draft model is called by `generate()` itself,
again and again. While anything watches, `generate()` therefore notes what the user gave it, in a
ContextVar: other threads have their own.
"""

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import GenerationMixin, PreTrainedModel


@dataclass(frozen=True, eq=False)
class PromptCall:
    """What `generate()` was given, by name.

    Attributes:
        arguments: those taken as keyword arguments included.
    """

    arguments: Mapping[str, Any]

    @property
    def drafting(self) -> bool:
        """Whether the model only drafts for another `generate()`, which shows it no pictures."""
        return bool(getattr(self.arguments.get("generation_config"), "is_assistant", False))

    @property
    def ids(self) -> Tensor | None:
        """The prompt, int64 [batch, length]; None where none was given as token ids."""
        ids = self.arguments.get("input_ids", self.arguments.get("inputs"))
        return ids if isinstance(ids, Tensor) and ids.ndim == 2 else None

    @property
    def attention_mask(self) -> Tensor | None:
        """What of the prompt is no padding, [batch, length]; None where it was not given."""
        mask = self.arguments.get("attention_mask")
        return mask if isinstance(mask, Tensor) and mask.ndim == 2 else None

    def setting(self, name: str, model: PreTrainedModel) -> Any:
        """What this call decodes by: its own argument, its configuration's, or the model's."""
        configs = self.arguments.get("generation_config"), getattr(model, "generation_config", None)
        found = (self.arguments.get(name), *(getattr(config, name, None) for config in configs))
        return next((value for value in found if value is not None), None)

    def expanded(self, batch: int) -> Tensor | None:
        """The prompt, each sample as often as beams or several answers a prompt need it."""
        return _repeated(self.ids, batch)

    def expanded_mask(self, batch: int) -> Tensor | None:
        """`attention_mask`, likewise."""
        return _repeated(self.attention_mask, batch)

    def ends_in(self, ids: Tensor, cached: int) -> bool:
        """Whether `ids` (int64 [batch, length]), after `cached` tokens, hold the prompt's end."""
        prompt = self.expanded(len(ids))
        if prompt is None or not cached < prompt.shape[1] <= cached + ids.shape[1]:
            return False
        rest = prompt[:, cached:].to(ids.device)
        return torch.equal(ids[:, : rest.shape[1]], rest)


def _repeated(rows: Tensor | None, batch: int) -> Tensor | None:
    if rows is None or batch % len(rows):
        return None
    return rows.repeat_interleave(batch // len(rows), dim=0)


@dataclass(frozen=True, eq=False)
class Generation:
    """One `generate()` of the user, with those that it makes of draft models.

    Attributes:
        prompts: by model, what its first `generate()` was given that is not of a draft.
        calls: the `generate()` of which models are under way, the innermost last.
    """

    prompts: dict[Any, PromptCall] = field(default_factory=dict)
    calls: list[tuple[Any, PromptCall]] = field(default_factory=list)

    def under_way(self, model: PreTrainedModel) -> PromptCall | None:
        """What the innermost `generate()` of `model` was given; None where there is none."""
        return next((given for one, given in reversed(self.calls) if one is model), None)


class Follower(Protocol):
    """What wants to know how a `generate()` ended."""

    def wants_beams(self, given: PromptCall) -> bool:
        """Whether it must know of each token which beam wrote it."""

    def ended(self, given: PromptCall, result: Any) -> None:
        """Take what transformers' own `generate()` returned: token ids, or its output object."""


Check = Callable[[PromptCall], None]

_checks: list[tuple[PreTrainedModel, Check]] = []
_followers: list[tuple[PreTrainedModel, Follower]] = []
_current: ContextVar[Generation | None] = ContextVar("tokenlens_generation", default=None)
_watched: dict[Any, "_Watched"] = {}
_lock = threading.Lock()


def current_generation() -> Generation | None:
    """The `generate()` under way in this context, if `watch_generate` is open for its model."""
    return _current.get()


@contextmanager
def watch_generate(
    model: PreTrainedModel, check: Check | None = None, follower: Follower | None = None
) -> Iterator[None]:
    """Let `current_generation` know of every `generate()` of `model` and of what may call it.

    `check` is called before each `generate()` of `model`, in whatever thread, and may refuse it;
    `follower` is told of the end of each. Where it wants the beams, transformers is asked for its
    output object, of which the caller still gets the token ids alone.
    """
    with ExitStack() as stack:
        if check is not None:
            checked = (model, check)
            _checks.append(checked)
            stack.callback(_checks.remove, checked)
        if follower is not None:
            followed = (model, follower)
            _followers.append(followed)
            stack.callback(_followers.remove, followed)
        for owner in _owners(model):
            _install(owner)
            stack.callback(_release, owner)
        yield


def _owners(model: PreTrainedModel) -> list[Any]:
    """Where a `generate` is found: transformers' own, the class's, and the model's own."""
    classes = [one for one in type(model).__mro__ if "generate" in vars(one)]
    owners = [GenerationMixin, *(one for one in classes[:1] if one is not GenerationMixin)]
    return [*owners, model] if "generate" in vars(model) else owners


@dataclass
class _Watched:
    """A `generate` that was replaced by one that notes what it is given."""

    original: Callable[..., Any]
    noting: Callable[..., Any]
    users: int = 0


def _install(owner: Any) -> None:
    with _lock:
        if owner not in _watched:
            original = vars(owner)["generate"]
            bound = None if isinstance(owner, type) else owner
            run = _followed(original) if owner is GenerationMixin else original
            _watched[owner] = _Watched(original, _noting(original, bound, run))
            owner.generate = _watched[owner].noting
        _watched[owner].users += 1


def _release(owner: Any) -> None:
    with _lock:
        watched = _watched[owner]
        watched.users -= 1
        if watched.users == 0:
            del _watched[owner]
            if vars(owner).get("generate") is watched.noting:
                owner.generate = watched.original


def _followed(original: Callable[..., Any]) -> Callable[..., Any]:
    """Transformers' own `generate()`, whose followers are told how it ended."""

    def generate(*args: Any, **kwargs: Any) -> Any:
        generation = _current.get()
        if generation is None or not generation.calls:
            return original(*args, **kwargs)
        model, given = generation.calls[-1]
        followers = [one for followed, one in tuple(_followers) if followed is model]
        alone = not given.setting("return_dict_in_generate", model)
        if alone and any(one.wants_beams(given) for one in followers):
            result = original(*args, **{**kwargs, "return_dict_in_generate": True})
        else:
            alone, result = False, original(*args, **kwargs)
        for one in followers:
            one.ended(given, result)
        return result.sequences if alone else result

    return generate


def _noting(
    original: Callable[..., Any], bound: Any, run: Callable[..., Any]
) -> Callable[..., Any]:
    """`run`, which stands for `original`, with what it is given noted while it runs."""
    signature = inspect.signature(original)

    @wraps(original)
    def generate(*args: Any, **kwargs: Any) -> Any:
        call = arguments_by_name(signature, args, kwargs)
        model = call.pop("self", None) if bound is None else bound
        given = PromptCall(call)
        for checked, check in tuple(_checks):
            if checked is model:
                check(given)
        outer = _current.get()
        generation = outer or Generation()
        if not given.drafting:
            generation.prompts.setdefault(model, given)
        generation.calls.append((model, given))
        token = _current.set(generation)
        try:
            return run(*args, **kwargs)
        finally:
            _current.reset(token)
            generation.calls.pop()
            if outer is None:
                generation.prompts.clear()

    return generate


def arguments_by_name(
    signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments of a call by name, those taken as **kwargs included."""
    if not args:
        return dict(kwargs)
    arguments: dict[str, Any] = {}
    for name, value in signature.bind_partial(*args, **kwargs).arguments.items():
        kind = signature.parameters[name].kind
        arguments |= value if kind is inspect.Parameter.VAR_KEYWORD else {name: value}
    return arguments
