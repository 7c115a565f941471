"""Arms, pictures and comparisons of rows for the tests of runs."""

import numpy as np
import pandas as pd
from PIL import Image

from tokenlens.schedule import Schedule

TIMES = ["prefill_s", "decode_s"]
QUESTIONS = (
    "where is the red circle ?",
    "what colour ?",
    "how many are there ?",
    "is a star ?",
)


def picture(seed, size=(24, 24)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def bypass(vlm):
    return Schedule.preset("swiftvlm", vlm, budget=0.7, layers=[3, 5], n_visual=36)


def arms(vlm):
    return {
        "unpruned": None,
        "bypass": bypass(vlm),
        "random": Schedule.preset("random", vlm, budget=0.5, n_visual=36),
    }


def untimed(results):
    return results.rows.drop(columns=TIMES)


def same(a, b):
    pd.testing.assert_frame_equal(untimed(a), untimed(b))
