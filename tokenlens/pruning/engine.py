"""Pruning engine: a context in which a model runs on fewer visual tokens.

The model's own code runs, layer by layer; hooks give every decoder layer only the tokens that are
left, with the masks and positions the model made for them. See `prefill` for what happens at a
stage, `continuation` for decoding, and `refusals` for what the engine cannot do correctly and
therefore refuses.
"""

import inspect
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.generic import is_flash_attention_requested

from tokenlens.errors import PruningError
from tokenlens.models.adapters import required_shrinking, required_tower
from tokenlens.models.structure import (
    decoder,
    decoder_layers,
    deepstack_layers,
    marked,
    text_config,
    unwrap,
    video_mask,
    visual_token_ids,
)
from tokenlens.probing.attention import is_observing, note_tokens, observe_attention
from tokenlens.probing.generations import (
    PromptCall,
    arguments_by_name,
    current_generation,
    watch_generate,
)
from tokenlens.pruning import refusals
from tokenlens.pruning.attention import Listener
from tokenlens.pruning.cache import Lease, check_cache, filled_here
from tokenlens.pruning.continuation import Continuation
from tokenlens.pruning.cost.decoder_cost import windows
from tokenlens.pruning.layer_call import LayerCall, Place
from tokenlens.pruning.positions import Rotary
from tokenlens.pruning.prefill import Prefill
from tokenlens.pruning.scoring import Prompt
from tokenlens.pruning.session_context import SessionContext
from tokenlens.pruning.tokens import Slots
from tokenlens.pruning.trace import Trace
from tokenlens.pruning.vision_tower import TowerReader, reads_tower
from tokenlens.schedule import Schedule, require_schedule

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM

_active: WeakSet[nn.Module] = WeakSet()
_lock = threading.Lock()


@contextmanager
def prune(
    vlm_or_model: "VLM | PreTrainedModel",
    schedule: Schedule,
    *,
    any_model: bool = False,
    recorded: Sequence[Tensor] | None = None,
) -> Iterator[Trace]:
    """Run a model on fewer visual tokens while the context is open.

    Call the model's forward or `generate()` inside as usual: batches are padded on the left, and
    the logits of a prefill are those of the tokens that are left, the last one at `[:, -1]`. The
    cache stores few keys and reports full lengths; it can be continued only inside the context.
    Leaving the context, also by an error, restores the model. Until then the model runs in the
    thread or task that opened the context (or in one that it started with a copy of its
    contextvars, as `asyncio.to_thread` does), one at a time; all others are refused.

    A schedule with an `image_scale` expects inputs that were prepared with it, by
    `vlm.prepare(..., image_scale=schedule.image_scale)`. All counts, those of the unpruned model
    included, are of the inputs as they are passed in.

    Args:
        vlm_or_model: a `tokenlens.VLM`, or a bare Hugging Face vision-language model.
        schedule: where to prune, how to score, and what becomes of the rest.
        any_model: run a schedule that was made for another id or revision.
        recorded: for scorer query "recorded", `recording.importance` of a probe of the unpruned
            model on the same inputs: per sample float32 [layers, n_visual]. The cost of that probe
            is not part of the trace.

    Yields:
        The trace of the latest prefill.

    Raises:
        ScheduleError: the schedule is for another architecture, depth, id or revision.
        PruningError: a model, schedule or call whose result would be silently wrong; see
            `refusals`.
    """
    refusals.refuse_compiled(vlm_or_model)
    model = unwrap(vlm_or_model)
    refusals.refuse_compiled(model)
    require_schedule(schedule).check(vlm_or_model, any_model=any_model)
    refusals.refuse_model(model)
    refusals.refuse_schedule(schedule, model)
    with ExitStack() as stack:
        stack.enter_context(_sole_user(decoder(model)))
        session = _Session(model, schedule, recorded)
        stack.callback(session.close)
        stack.enter_context(observe_attention(session.implementation, session.context.listener))
        session.look(stack)
        session.interpolate(stack)
        session.attach(stack)
        yield session.context.trace


@contextmanager
def _sole_user(module: nn.Module) -> Iterator[None]:
    """Reserve a decoder for one pruning context at a time."""
    with _lock:
        if module in _active:
            raise PruningError(
                "the model is already being pruned; leave that `with tokenlens.prune(...)` block "
                "before entering another"
            )
        _active.add(module)
    try:
        yield
    finally:
        with _lock:
            _active.discard(module)


class _Session:
    """One pruning context: its hooks, and the state of the current forward pass."""

    def __init__(
        self, model: PreTrainedModel, schedule: Schedule, recorded: Sequence[Tensor] | None
    ) -> None:
        self._model = model
        self._recorded = recorded
        self._signature = inspect.signature(model.forward)
        self._visual_ids = visual_token_ids(model)
        self._layers = tuple(decoder_layers(model))
        self._run: Prefill | Continuation | None = None
        self._thread: int | None = None
        config = text_config(model)
        self.implementation: str = config._attn_implementation
        self.context = SessionContext(
            schedule=schedule,
            config=config,
            windows=windows(config),
            element_size=model.dtype.itemsize,
            featured=deepstack_layers(model),
            listener=Listener(),
            rotary=Rotary(getattr(decoder(model), "rotary_emb", None)),
            lease=Lease(),
            trace=Trace(),
            flat=is_flash_attention_requested(config),
            tower_reader=TowerReader(required_tower(model)) if reads_tower(schedule) else None,
        )

    def look(self, stack: ExitStack) -> None:
        """Read the vision tower where the schedule needs it, until `stack` is left."""
        tower_reader = self.context.tower_reader
        if tower_reader is not None:
            tower = tower_reader.tower
            handle = tower.module.register_forward_pre_hook(tower_reader.begin, with_kwargs=True)
            stack.callback(handle.remove)
            config: Any = tower.attention.config
            stack.enter_context(observe_attention(config._attn_implementation, tower_reader))

    def interpolate(self, stack: ExitStack) -> None:
        """Let the tower accept smaller pictures where the schedule has them, until `stack` ends."""
        if self.context.schedule.image_scale is None:
            return
        tower = required_shrinking(self._model.config).interpolated(self._model)
        if tower is not None:
            handle = tower.register_forward_pre_hook(self._interpolate, with_kwargs=True)
            stack.callback(handle.remove)

    def _interpolate(
        self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        self._check_context()
        return args, {**kwargs, "interpolate_pos_encoding": True}

    def attach(self, stack: ExitStack) -> None:
        """Register every hook; `stack` removes them again."""

        def own(handle: torch.utils.hooks.RemovableHandle) -> None:
            stack.callback(handle.remove)

        own(self._model.register_forward_pre_hook(self._before_model, with_kwargs=True))
        own(self._model.register_forward_hook(self._after_model, always_call=True))
        own(decoder(self._model).register_forward_pre_hook(self._before_decoder, with_kwargs=True))
        for number, layer in enumerate(self._layers, start=1):
            before = partial(self._before_layer, Place.of(number, layer))
            own(layer.register_forward_pre_hook(before, with_kwargs=True))
            if number <= self.context.featured or number in self.context.read_at:
                own(layer.register_forward_hook(partial(self._after_layer, number)))
        rotary = self.context.rotary
        if rotary.module is not None:
            own(rotary.module.register_forward_pre_hook(rotary.widen, with_kwargs=True))
            own(rotary.module.register_forward_hook(rotary.record, with_kwargs=True))
        stack.enter_context(watch_generate(self._model, self._check_generate))

    def close(self) -> None:
        """Mark the context as left: no forward pass may continue its caches."""
        self.context.lease.open = False
        self._forget_run()

    def _forget_run(self) -> None:
        self._run = self._thread = None
        self.context.listener.forget()
        self.context.rotary.forget()
        note_tokens(whole=True)

    def _before_model(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._check_context()
        thread = threading.get_ident()
        if self._thread not in (None, thread):
            raise PruningError(
                "another thread is running this model; a pruning context serves one at a time"
            )
        self._forget_run()
        call = arguments_by_name(self._signature, args, kwargs)
        generation = current_generation()
        generating = generation is not None and generation.under_way(self._model) is not None
        given = None if generation is None else generation.prompts.get(self._model)
        refusals.refuse_call(call)
        refusals.refuse_uncached(self._layers, call, generating=generating)
        cache = call.get("past_key_values")
        check_cache(cache)
        if filled_here(cache, self.context.lease):
            refusals.refuse_continuation(call, self._visual_ids, generating=generating)
            self._run = Continuation(self.context, cache)
        else:
            refusals.refuse_prompt(call)
            refusals.refuse_order_scales(self.context.config, call["input_ids"].shape[1])
            self._run = self._prefill(call["input_ids"], call.get("attention_mask"), given)
        self._thread = thread

    def _prefill(
        self, ids: Tensor, attention_mask: Tensor | None, given: PromptCall | None
    ) -> Prefill:
        if attention_mask is None:
            attended = torch.ones_like(ids, dtype=torch.bool)
        else:
            attended = attention_mask.to(ids.device).bool()
        if self.context.tower_reader is not None:
            refusals.refuse_videos(video_mask(self._model, ids))
        whole = Slots.of_input(marked(ids, self._visual_ids), attended)
        padded, picture = torch.stack([~attended[:, -1], whole.visual[:, -1]]).any(1).tolist()
        refusals.refuse_padding(padded)
        end = ids.shape[1]
        if given is not None and given.ids is not None and given.ends_in(ids, 0):
            end = given.ids.shape[1]
        prompt = Prompt(
            ids=ids,
            visual=whole.visual,
            attended=attended,
            end=end,
            ends_in_text=end == ids.shape[1] and not picture,
            recorded=self._recorded,
        )
        return Prefill(self.context, prompt, whole)

    def _after_model(self, _: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        if self._thread != threading.get_ident():
            return
        run = self._run
        self._forget_run()
        if run is not None and output is not None:
            run.finish()

    def _before_decoder(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        kwargs = dict(kwargs)
        self._current(module).enter_decoder(kwargs)
        return args, kwargs

    def _before_layer(
        self, place: Place, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]] | None:
        run = self._current(place.layer)
        note_tokens(whole=False)  # other observers ignore the layers that run here for scoring
        if len(args) < 2 and run.leaves_alone(kwargs):
            return None
        call, hidden = LayerCall.of(place, args, kwargs)
        hidden, arguments = run.enter(call, hidden)
        note_tokens(whole=run.whole)
        return (hidden,), arguments

    def _after_layer(self, number: int, layer: nn.Module, _: tuple[Any, ...], output: Any) -> Any:
        run = self._current(layer)
        if isinstance(output, Tensor):
            return run.leave(number, output)
        return (run.leave(number, output[0]), *output[1:])

    def _current(self, module: nn.Module) -> Prefill | Continuation:
        self._check_context()
        if self._run is None or self._thread != threading.get_ident():
            raise PruningError(
                f"{type(module).__name__} was called by itself, where visual tokens cannot be "
                f"found; call the {type(self._model).__name__} given to tokenlens.prune(...)"
            )
        return self._run

    def _check_generate(self, given: PromptCall) -> None:
        """Before a `generate()` of the model: refuse what it cannot do here."""
        self._check_context()
        refusals.refuse_generation(self._model, given.arguments)
        if self.context.tower_reader is not None and given.drafting:
            refusals.refuse_drafting()

    def _check_context(self) -> None:
        """Refuse threads and tasks that did not open the context: hooks are on shared modules."""
        if not is_observing(self.context.listener):
            raise PruningError(
                "the model is being pruned by another thread or task than this one; open "
                "tokenlens.prune(...) in the thread that calls the model, around generate() or the "
                "forward pass"
            )
