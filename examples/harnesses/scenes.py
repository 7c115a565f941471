"""What lmms-eval's task `scenes` asks about a row, and how it scores an answer.

Run this file to write the rows, `scenes.parquet`, from the scenes that come with tokenlens.
"""

import sys

import tokenlens as tl


def pictures(row):
    """The pictures of a row."""
    return [row["image"].convert("RGB")]


def question(row, lmms_eval_specific_kwargs=None):  # noqa: ARG001 - lmms-eval passes it
    """The question, as the model receives it."""
    return row["question"]


def scores(row, results):
    """1 where the answer has the words of the right one, else 0."""
    return {"same_words": float(results[0].lower().split() == row["answer"].lower().split())}


def write(path, limit=None):
    """Write the held-out scenes, their pictures included."""
    from datasets import Dataset, Image

    rows = [
        {
            "id": sample.id,
            "image": {"bytes": sample.image.read_bytes(), "path": sample.image.name},
            "question": sample.question,
            "answer": sample.answers[0],
        }
        for sample in tl.load_samples("scenes", "held-out", limit)
    ]
    Dataset.from_list(rows).cast_column("image", Image()).to_parquet(path)


if __name__ == "__main__":
    write("scenes.parquet", int(sys.argv[1]) if len(sys.argv) > 1 else None)
