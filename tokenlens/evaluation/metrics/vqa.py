"""The soft accuracy of VQAv2 and TextVQA, with its normalisation of answers.

Source: Antol et al. 2015 and Goyal et al. 2017, GT-Vision-Lab/VQA `vqaEval.py`; Singh et al. 2019
for TextVQA, whose evaluator differs in commas only. Deviation: both sides are always normalised, as
TextVQA's does it; VQA's leaves the ten answers as they are where all of them are the same.
"""

import re
from collections.abc import Sequence

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_VALUES = {"none": "0", **{word: str(value) for value, word in enumerate(_NUMBERS)}}
_ARTICLES = frozenset({"a", "an", "the"})
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_THOUSANDS = re.compile(r"\d,\d")
_POINT = re.compile(r"\.(?!\d)")

_CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've
might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
someone's something'd something'd've something'll that's there'd there'd've there're there's they'd
they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've
when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't
would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""
_CONTRACTIONS = {
    word[:place] + word[place + 1 :]: word
    for word in _CONTRACTED.split()
    for place, letter in enumerate(word)
    if letter == "'"
}
"""Contractions by their form without an apostrophe. Words such as I'm and let's are
missing here because the published script never finds them in lower case."""


def normalise_vqa(answer: str) -> str:
    """An answer in lower case without articles and punctuation; numbers become digits.

    Contractions get their apostrophe.

    A punctuation mark is deleted where it occurs next to a space anywhere in the answer, or where
    the answer has a comma inside a number; otherwise it becomes a space.

    >>> normalise_vqa("The two dogs!"), normalise_vqa("dont"), normalise_vqa("T-shirt")
    ('2 dogs', "don't", 't shirt')
    >>> normalise_vqa("1,000 people"), normalise_vqa("3.5 m."), normalise_vqa("none")
    ('1000 people', '3.5 m', '0')
    """
    text = answer.replace("\n", " ").replace("\t", " ").strip()
    thousands, marked = _THOUSANDS.search(text), text
    for mark in _PUNCTUATION:
        beside_space = f"{mark} " in text or f" {mark}" in text
        marked = marked.replace(mark, "" if beside_space or thousands else " ")
    words = (_VALUES.get(word, word) for word in _POINT.sub("", marked).lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def soft_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Soft accuracy of an answer against several people's answers: 0 to 1.

    For each person's answer, the others that agree are counted and divided by 3, at most 1; the
    result is the mean. With ten answers, one that agrees gives 0.3, two give 0.6, three 0.9, four
    or more 1. With a single answer, the result is 1 where it agrees, else 0.

    >>> round(soft_accuracy("Two", ["2", "two", "three"] + ["many"] * 7), 3)
    0.6
    """
    said = normalise_vqa(prediction)
    equal, total = sum(normalise_vqa(answer) == said for answer in answers), len(answers)
    if total == 1:
        return float(equal)
    agreeing, others = min(1.0, (equal - 1) / 3), min(1.0, equal / 3)
    return (equal * agreeing + (total - equal) * others) / total if equal else 0.0
