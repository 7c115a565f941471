"""A `smol-llava` of four small random layers: its base, its parts, and the directory they make."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tokenlens.data.training.smol.export import export
from tokenlens.data.training.smol.family import SmolLlava
from tokenlens.models.composing.adapters import adapted
from tokenlens.models.composing.decoder import save_tokenizer

LAYERS, WIDTH = 4, 48
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<empty_output>")


def small_base(folder: Path) -> Path:
    """A model directory like the base's: bytes for a vocabulary, and the special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *letters))}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token=SPECIAL[2], pad_token=SPECIAL[2]
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=3,
            num_key_value_heads=1,
            max_position_embeddings=512,
            initializer_range=0.2,
            tie_word_embeddings=True,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=2,
        )
    ).save_pretrained(folder)
    return folder


def random_adapters(base: Path, rank: int = 4) -> dict[str, Tensor]:
    """Adapters of the base's matrices."""
    decoder = LlamaForCausalLM.from_pretrained(base).model
    generator = torch.Generator().manual_seed(1)
    found = {}
    for name in adapted(LAYERS):
        outputs, inputs = decoder.get_submodule(name).weight.shape
        found[f"{name}.down"] = 0.1 * torch.randn(rank, inputs, generator=generator)
        found[f"{name}.up"] = 0.1 * torch.randn(outputs, rank, generator=generator)
    return found


def small_family(base: Path, folder: Path) -> SmolLlava:
    """The architecture with the base's tokenizer."""
    folder.mkdir()
    save_tokenizer(base, folder)
    return SmolLlava(folder)


def small_parts(base: Path, folder: Path, adapters: dict[str, Tensor]) -> Path:
    """What would ship for the base: a random tower and projector, and the adapters."""
    family = small_family(base, folder.with_name("words"))
    torch.manual_seed(2)
    export(family, family.assemble(LlamaConfig.from_pretrained(base)), adapters, folder)
    return folder
