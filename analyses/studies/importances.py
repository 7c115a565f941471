"""When may attention be believed? Importances compared by what the answer loses without their top.

    python -m tokenlens.analyses.studies.importances --layer 9 --layer 15

Of held-out samples, maps of several importances at the same layers (and the mean of all layers'),
beside occlusion and chance. The deletion test leaves a map's top 5, 10, 20 and 40 % of the visual
tokens out of all layers, the insertion test leaves these alone in; measured is the probability of
the unpruned model's own answer, teacher-forced, the geometric mean over its tokens (Petsiuk et al.,
RISE, BMVC 2018, arXiv 1806.07421, §3.3, with tokens in the place of pixels). A figure is the mean
over the four shares. Intervals are 95 % bootstrap intervals over pictures: the questions about a
picture are one draw. A run that is stopped continues.
"""

from __future__ import annotations

from argparse import Namespace

import numpy as np
import pandas as pd

from tokenlens.measures.intervals import bootstrap_interval
from tokenlens.models.loading import load
from tokenlens.samples.dataset import load_samples, with_pictures
from tokenlens.storage.output_paths import ROOT, slug

from . import command
from .importance_rows import MEAN, SHARES, Maps, measure
from .paired_difference import markdown_table

TESTS = ("deletion", "insertion")


def compute(rows: pd.DataFrame, maps: Maps) -> pd.DataFrame:
    """Every map's figures, means over pictures with their intervals.

    Args:
        rows: what `importance_rows.measure` gives.
        maps: which maps these are of.

    Returns:
        Columns `importance`, `layer` (0 for the mean of all), and for each of `deletion`,
        `insertion`, `recall`, `occlusion` (rank correlation with it), `deletion_lead` and
        `insertion_lead` (minus attention's at the same layer) three: the mean, `…_low`, `…_high`.
    """
    count = len(maps.names)
    by_map = {
        test: np.stack(rows[test].to_list()).reshape(len(rows), count, len(SHARES)).mean(axis=2)
        for test in TESTS
    }
    by_map["recall"] = np.stack(rows["recall"].to_list())
    correlation = np.stack(rows["correlation"].to_list()).reshape(len(rows), count, count)
    by_map["occlusion"] = correlation[:, :, maps.names.index(("occlusion", 1))]
    found = []
    for place, (name, layer) in enumerate(maps.names):
        line: dict[str, object] = {"importance": name, "layer": layer}
        own_layer = layer if ("attention", layer) in maps.names else MEAN
        base = maps.names.index(("attention", own_layer))
        for what, values in by_map.items():
            line |= _interval(what, values[:, place], rows["picture"])
            if what in TESTS:
                lead = values[:, place] - values[:, base]
                line |= _interval(f"{what}_lead", lead, rows["picture"])
        found.append(line)
    return pd.DataFrame(found)


def correlations(rows: pd.DataFrame, maps: Maps) -> pd.DataFrame:
    """Mean rank correlation between maps, by their names."""
    count = len(maps.names)
    matrix = np.stack(rows["correlation"].to_list()).reshape(-1, count, count).mean(axis=0)
    names = [title(*name) for name in maps.names]
    return pd.DataFrame(matrix, index=names, columns=names)


def _interval(what: str, values: np.ndarray, pictures: pd.Series) -> dict[str, float]:
    """Mean over pictures of their questions' mean, and its ends; NaN where there is nothing."""
    means = pd.Series(values).groupby(pictures.to_numpy()).mean().dropna()
    ends = bootstrap_interval(means) if len(means) else (np.nan,) * 3
    return dict(zip((what, f"{what}_low", f"{what}_high"), map(float, ends), strict=True))


def title(name: str, layer: int) -> str:
    """What a table calls a map.

    >>> title("gradient", 9), title("attention", 0), title("random", 0)
    ('gradient, layer 9', 'attention, mean of layers', 'random')
    """
    if name == "random":
        return name
    if name == "occlusion":
        return "occlusion, from layer 1 on"
    return f"{name}, {'mean of layers' if layer == MEAN else f'layer {layer}'}"


def markdown(rows: pd.DataFrame, maps: Maps) -> str:
    """Three tables: the tests, the same against attention, and how alike the maps rank."""
    table = compute(rows, maps)
    names = [title(*name) for name in maps.names]
    figures = [
        [name, *(_cell(line, what) for what in (*TESTS, "recall", "occlusion"))]
        for name, line in zip(names, table.to_dict("records"), strict=True)
    ]
    heads = ["map", "deletion", "insertion", "region in top 20 %", "correlation with occlusion"]
    leads = [
        [name, *(_cell(line, f"{what}_lead") for what in TESTS)]
        for name, line in zip(names, table.to_dict("records"), strict=True)
    ]
    matrix = correlations(rows, maps)
    alike = [[name, *(f"{value:.2f}" for value in matrix.loc[name])] for name in names]
    whole = _interval("whole", rows["whole"].to_numpy(), rows["picture"])
    return "\n\n".join(
        [
            f"{len(rows)} samples, {rows['picture'].nunique()} pictures; with all visual tokens "
            f"the answer's probability is {_cell(whole, 'whole')}.",
            markdown_table(heads, figures),
            "Minus attention's at the same layer (of occlusion and chance, minus that of the mean "
            "of layers):",
            markdown_table(["map", *TESTS], leads),
            "Rank correlation:",
            markdown_table(["map", *map(str, range(1, len(names) + 1))], alike),
        ]
    )


def _cell(line: dict[str, float], what: str) -> str:
    if np.isnan(line[what]):
        return "none"
    return f"{line[what]:.3f} ({line[f'{what}_low']:.3f} to {line[f'{what}_high']:.3f})"


def main() -> None:
    """Measure what is missing, print the tables."""
    parser = command.arguments("importances", "Importances compared by deletion and insertion.")
    parser.add_argument("--layer", type=int, action="append", default=[], help="may be repeated")
    command.run(parser, _tables)


def _tables(options: Namespace) -> str:
    loaded = load_samples(options.data, "held-out", options.limit, options.task)
    samples = with_pictures(loaded, "the study")
    vlm = load(options.model)
    command.check_layers(options.layer, vlm.layers)
    maps = Maps((*options.layer, MEAN))
    name = f"importances-{samples.name}-{len(samples)}"
    out = options.out or ROOT / slug(options.model) / name / "rows"
    rows = measure(vlm, samples, maps.layers, out, batch_size=options.batch_size)
    return markdown(rows, maps)


if __name__ == "__main__":
    main()
