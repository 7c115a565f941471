"""Importances written down plainly, from what transformers' eager attention shows of one sample."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    return model.get_decoder().layers


@contextmanager
def eager(model: PreTrainedModel) -> Iterator[None]:
    config = model.config.get_text_config()
    before, config._attn_implementation = config._attn_implementation, "eager"
    try:
        yield
    finally:
        config._attn_implementation = before


@torch.no_grad()
def projected_norms(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor:
    """Norm of what each head of each layer makes of every token: [layers, heads, n].

    The output projection itself is run on the value of one head, with zeros for all others.
    """
    found: list[Tensor] = []
    handles = []
    config = model.config.get_text_config()
    heads, groups = config.num_attention_heads, config.num_key_value_heads

    def norms(attention: nn.Module, values: Tensor) -> Tensor:
        by_head = values[0, :, -groups * attention.head_dim :].unflatten(-1, (groups, -1))
        by_head = by_head.repeat_interleave(heads // groups, dim=1)  # [n, heads, size]
        nothing = attention.o_proj(torch.zeros_like(by_head).flatten(1))
        rows = []
        for head in range(heads):
            alone = torch.zeros_like(by_head)
            alone[:, head] = by_head[:, head]
            rows.append((attention.o_proj(alone.flatten(1)) - nothing).norm(dim=-1))
        return torch.stack(rows)

    for layer in layers_of(model):
        attention = layer.self_attn
        source = attention.v_proj if hasattr(attention, "v_proj") else attention.qkv_proj
        handles.append(
            source.register_forward_hook(
                lambda _, __, output, attention=attention: found.append(norms(attention, output))
            )
        )
    try:
        model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(found)


def attention_gradients(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], token: int | None = None
) -> tuple[Tensor, Tensor]:
    """Eager maps of one sample and their gradients by autograd, [layers, heads, n, n] each.

    Of the logit of `token` after the prompt; of the most likely one where None.
    """
    with eager(model), torch.enable_grad():
        output = model(**inputs, output_attentions=True, use_cache=False)
        following = output.logits[0, -1]
        chosen = following.detach().clone()
        chosen[model.config.image_token_id] = -torch.inf
        best = int(chosen.argmax()) if token is None else token
        gradients = torch.autograd.grad(following[best], output.attentions)
    return torch.cat([one.detach() for one in output.attentions]), torch.cat(gradients)


@torch.no_grad()
def answer_without(
    model: PreTrainedModel,
    inputs: Mapping[str, Tensor],
    answer: list[int],
    gone: list[int],
    layer: int,
) -> Tensor:
    """Log-probabilities of an answer to one unpadded prompt, token by token, in full runs.

    From `layer` (from 1) on every row is forbidden to attend to the places `gone`. The whole
    sequence runs anew for each token of the answer. Image tokens are never answered.
    """

    def forbid(_: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        mask = kwargs["attention_mask"].clone()
        mask[..., gone] = torch.finfo(mask.dtype).min
        return args, {**kwargs, "attention_mask": mask}

    found = []
    handles = [
        one.register_forward_pre_hook(forbid, with_kwargs=True)
        for one in list(layers_of(model))[layer - 1 :]
    ]
    try:
        with eager(model):
            for count, token in enumerate(answer):
                given = dict(inputs)
                for name, value in inputs.items():
                    if value.shape == inputs["input_ids"].shape:
                        suffix = name == "token_type_ids" and "PaliGemma" in type(model).__name__
                        more = [int(name == "attention_mask" or suffix)] * count
                        more = answer[:count] if name == "input_ids" else more
                        given[name] = torch.cat([value, torch.tensor([more], dtype=value.dtype)], 1)
                logits = model(**given, use_cache=False).logits[0, -1].double()
                for name in ("image_token_id", "video_token_id"):
                    if getattr(model.config, name, None) is not None:
                        logits[getattr(model.config, name)] = -torch.inf
                found.append(logits.log_softmax(-1)[token])
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(found)
