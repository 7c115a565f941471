"""Arguments and requests of lmms-eval: what is read, and what is refused in one line."""

import hashlib

import pytest
from PIL import Image

from tests.support.builders import tiny_qwen2_vl
from tokenlens.errors import OptionError, SampleError, ScheduleError
from tokenlens.harnesses.lmms_arguments import ScheduleFile, UnhashedWarning, check_known, count
from tokenlens.harnesses.lmms_requests import Decoding, sample_of
from tokenlens.schedule import Schedule

CACHED = ("lmms_eval", "--use_cache", "responses")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a,b.json"
    Schedule.preset("fastv", tiny_qwen2_vl(), budget="60%", n_visual=36).save(path)
    return path


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_schedule_goes_with_its_hash(file):
    for given in (digest(file), digest(file)[:16], digest(file).upper()):
        read = ScheduleFile.read(f"'{file}'", f"sha256:{given}", command=CACHED)
        assert read.schedule == Schedule.load(file)
        assert not read.any_model


@pytest.mark.parametrize("given", ["sha256:0123456789abcdef", "sha256:", 12])
def test_another_hash_is_refused(file, given):
    with pytest.raises(OptionError, match=rf"give schedule=.*sha256:{digest(file)[:16]}"):
        ScheduleFile.read(file, given)


@pytest.mark.parametrize("words", [CACHED, ("lmms_eval", "--use_cache=responses")])
def test_a_cache_of_responses_needs_the_hash(file, words):
    with pytest.raises(
        OptionError, match=r"--use_cache: .*; give schedule=.*schedule_hash=sha256:"
    ):
        ScheduleFile.read(file, command=words)


def test_without_a_cache_the_hash_is_advised(file):
    with pytest.warns(UnhashedWarning, match=r"with --use_cache give schedule="):
        assert ScheduleFile.read(file, any_model=True).any_model


@pytest.mark.parametrize("name", [None, "", "none", "None"])
def test_no_schedule_is_the_unpruned_model(name):
    assert ScheduleFile.read(name, command=CACHED).schedule is None


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ScheduleError, match=r"no\.json"):
        ScheduleFile.read(tmp_path / "no.json")


def test_arguments_that_no_model_has_are_refused():
    with pytest.raises(OptionError, match="did you mean 'schedule'"):
        check_known(["schedul"], ["pretrained", "schedule"])
    with pytest.raises(OptionError, match="batch_size: got 'auto'"):
        count("batch_size", "auto")


@pytest.mark.parametrize(
    "options",
    [{"temperature": 0.7}, {"do_sample": True}, {"num_beams": 4}, {"repetition_penalty": 1.2}],
)
def test_what_is_not_greedy_is_refused(options):
    with pytest.raises(OptionError, match=f"give --gen_kwargs {next(iter(options))}="):
        Decoding.of(options)


def test_a_request_is_a_sample():
    picture = Image.new("RGB", (8, 8))
    rows = {"t": {"test": [{"image": picture}]}}
    options = {"max_new_tokens": 5, "temperature": 0.0, "until": "\n"}
    for found, pictures in ([picture], 1), ([[picture, picture]], 2), (None, 0), ([], 0):
        sample, decoding = sample_of(
            ("<image>\nwhere is it ?", options, lambda row, found=found: found, 0, "t", "test"),
            rows,
        )
        assert sample.question == "where is it ?"
        assert len(sample.pictures) == pictures
        assert sample.text_only == (not pictures)
        assert decoding == Decoding(5, ("\n",))


def test_a_video_file_is_refused():
    rows = {"t": {"test": [{}]}}
    with pytest.raises(SampleError, match=r"t/test/0: the task gives str 'a\.mp4', expected pict"):
        sample_of(("where ?", {}, lambda row: ["a.mp4"], 0, "t", "test"), rows)
