"""A video where torchvision is not installed: one line that says so, wherever it is met."""

import copy
import pickle

import numpy as np
import pytest
from transformers.utils.import_utils import is_torchvision_available

import tokenlens as tl
from tests.support.layout_families import FAMILIES
from tokenlens.errors import ModelError, SampleError
from tokenlens.models.no_video import NoVideo
from tokenlens.models.processing import without_video

FRAMES = np.zeros((4, 24, 24, 3), dtype=np.uint8)
VIDEOS = {
    "an array": FRAMES,
    "frames": list(FRAMES),
    "a path": "clip.mp4",
    "a list of paths": ["1.png", "2.png"],
}


def refused(*words):
    gap = r"[^\n]*"
    return pytest.raises(ModelError, match=rf"\A{gap}{gap.join(words)}{gap}\Z")


@pytest.fixture(scope="module")
def vlm():
    return tl.load("tiny-qwen2-vl", device="cpu")


@pytest.fixture(autouse=True)
def without_torchvision():
    if is_torchvision_available():
        pytest.skip("torchvision reads videos here")


@pytest.mark.parametrize("video", VIDEOS.values(), ids=VIDEOS)
def test_a_loaded_processor_says_what_is_missing(vlm, video):
    content = [{"type": "video", "video": video}, {"type": "text", "text": "where is it ?"}]
    chat = [{"role": "user", "content": content}]
    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
    for conversation in (chat, [chat]):
        with refused("needs torchvision", "not installed"):
            vlm.processor.apply_chat_template(conversation, **options)
    with refused("needs torchvision", "not installed"):
        text = "<|vision_start|><|video_pad|><|vision_end|> where is it ?"
        vlm.processor(text=[text], videos=[FRAMES], return_tensors="pt")


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "paligemma"])
def test_every_family(name):
    """Those that take no videos too: transformers' own code would pass over them."""
    if name == "smolvlm":
        pytest.importorskip("num2words", reason="SmolVLM's processor wants it")
    _, processor = FAMILIES[name].build()
    takes = "video_processor" in type(processor).__mro__[1].get_attributes()
    text = f"{getattr(processor, 'video_token', '')} where ?"
    with refused("needs torchvision" if takes else "takes no videos"):
        processor(text=[text], videos=[FRAMES], return_tensors="pt")


def test_paligemma():
    _, processor = FAMILIES["paligemma"].build()
    loaded = without_video(type(processor))(processor.image_processor, processor.tokenizer)
    with refused("takes no videos"):
        loaded(text=["where ?"], videos=[FRAMES], return_tensors="pt")


def test_prepare_says_that_a_video_is_no_picture(vlm, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(64))
    with pytest.raises(SampleError, match=r"\A[^\n]*clip\.mp4[^\n]*\Z"):
        vlm.prepare(tmp_path / "clip.mp4", "where is it ?")


def test_settings_for_videos_are_not_there_but_nothing_else_is_disturbed(vlm):
    half = vlm.processor.video_processor
    assert isinstance(half, NoVideo)
    assert (half.num_frames, half.fps) == (None, None)
    with refused("needs torchvision"):
        _ = half.merge_size
    assert isinstance(copy.deepcopy(half), NoVideo)
    assert isinstance(pickle.loads(pickle.dumps(half)), NoVideo)  # noqa: S301 - our own bytes
    assert "Qwen2VL" in repr(vlm.processor)
