"""The tokenizer of `tiny-qwen2-vl`: the words of the scenes, and boxes in four tokens.

A box such as `(125,208),(375,458)` is split into `(125,` `208),(` `375,` `458)`, so that the first
token of the answer already carries x1: the prompt's last token must itself look at the picture.
"""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ..questions import thousandth
from ..scenes import COLOURS, COUNTS, GRID, LETTERS, SHAPES

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
)
ROLES = ("system", "user", "assistant")
WORDS = (
    "where what how is are there a an the on in of many letter colour shape thing things yes no ?"
)

CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string -%}
{{ message.content }}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>
{%- elif part.type == 'video' -%}<|vision_start|><|video_pad|><|vision_end|>
{%- elif part.type == 'text' -%}{{ part.text }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""


def vocabulary() -> dict[str, int]:
    """Piece to id: special tokens, words, digits for counts, and the four pieces of every box."""
    coordinates = [thousandth(cells) for cells in range(GRID + 1)]
    pieces = [
        *SPECIAL,
        *ROLES,
        *WORDS.split(),
        *COLOURS,
        *(word for pair in SHAPES.items() for word in pair),
        *LETTERS,
        *(str(count) for count in range(COUNTS[1] + 1)),
        *(f"({value}," for value in coordinates),
        *(f"##{value}),(" for value in coordinates),
        *(f"##{value}," for value in coordinates),
        *(f"##{value})" for value in coordinates),
    ]
    return {piece: index for index, piece in enumerate(pieces)}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer with its chat template, ready to be saved beside a model."""
    core = Tokenizer(models.WordPiece(vocabulary(), unk_token=UNKNOWN))
    core.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(rf"\b{word.capitalize()}\b"), word)
            for word in ("where", "what", "how", "is")
        ]
    )
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("?", "isolated")]
    )
    core.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        additional_special_tokens=[token for token in SPECIAL if token not in (PAD, UNKNOWN, END)],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
