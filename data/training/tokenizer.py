"""The tokenizer of the tiny models: the words of the scenes, and boxes in four tokens.

A box such as `(125,208),(375,458)` is split into `(125,` `208),(` `375,` `458)`, so that the first
token of the answer already carries x1: the prompt's last token must itself look at the picture.
"""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ..questions import thousandth
from ..scenes import COLOURS, GRID, LETTERS, SHAPES

PAD, UNKNOWN, END = "<|endoftext|>", "<|unknown|>", "<|im_end|>"
SPECIAL = (
    PAD,
    UNKNOWN,
    "<|im_start|>",
    END,
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|image|>",
)
ROLES = ("system", "user", "assistant", "USER", "ASSISTANT")
WORDS = "where what is there it a an the on to follow marked letter colour shape thing yes no : ?"


def vocabulary() -> dict[str, int]:
    """Piece to id: special tokens, words, and the four pieces of every box."""
    coordinates = [thousandth(cells) for cells in range(GRID + 1)]
    pieces = [
        *SPECIAL,
        *ROLES,
        *WORDS.split(),
        *COLOURS,
        *SHAPES,
        *LETTERS,
        *(f"({value}," for value in coordinates),
        *(f"##{value}),(" for value in coordinates),
        *(f"##{value}," for value in coordinates),
        *(f"##{value})" for value in coordinates),
    ]
    return {piece: index for index, piece in enumerate(pieces)}


def make_tokenizer(chat_template: str) -> PreTrainedTokenizerFast:
    """The tokenizer with a family's chat template, ready to be saved beside a model."""
    core = Tokenizer(models.WordPiece(vocabulary(), unk_token=UNKNOWN))
    core.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(rf"\b{word.capitalize()}\b"), word)
            for word in ("where", "what", "is", "follow")
        ]
    )
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("[?:]"), "isolated")]
    )
    core.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        additional_special_tokens=[token for token in SPECIAL if token not in (PAD, UNKNOWN, END)],
        chat_template=chat_template,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
