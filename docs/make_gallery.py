"""Makes the gallery: every picture of `scapp.pl`, from the lines that the page shows.

python docs/make_gallery.py [NAME ...]

draws the pictures (all, or those named) into docs/_static/gallery and writes docs/gallery.md. The data are simulated, and two
cores need a few minutes.

A new picture is one more entry of PICTURES. Its code is run as it stands on the page.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
FOLDER = Path("_static") / "gallery"
COLORS = 256  # of a picture's palette: a few colors and their mixtures at the edges

# What the pictures are made of, as the page shows it.
SETUP = """\
import itertools

import pandas as pd
import scapp
import scvi

cells, truth = scapp.datasets.simulated_perturb_seq(seed=1)
effects = scapp.pp.pseudobulk(cells, batch_key="batch")
scapp.pp.add_network(effects, truth.network, directed=True)

doubles = [name for name in effects.obs_names if "+" in name]
held_out = doubles[::4]
train = effects[~effects.obs_names.isin(held_out)].copy()
scvi.settings.seed = 0
scapp.model.APP.setup_anndata(train)
model = scapp.model.APP(train)
model.train()
predicted = model.predict(held_out)
double = held_out[3]
"""
BENCHMARK = """\
small, known = scapp.datasets.simulated_perturb_seq(
    n_genes=150,
    n_regulators=30,
    n_singles=24,
    n_doubles=60,
    seed=2,
)
task = scapp.benchmark.doubles(small, network=known.network, batch_key="batch", n_splits=2)
simple = ["no change", "mean", "additive", "shrunk additive", "pair kernel"]
scapp.benchmark.run(task, [*simple, "APP"], folder="results")
results = scapp.benchmark.score(task, "results")
"""


@dataclass(frozen=True)
class Picture:
    """A picture of the gallery.

    Parameters
    ----------
    name
        Of its file.
    title
        Above it.
    text
        What to look for, in Markdown.
    alt
        What is to be seen, for those who do not see it.
    code
        The lines that draw it, after SETUP and, for pictures of a benchmark, BENCHMARK.
    benchmark
        Whether it is a picture of a benchmark.
    """

    name: str
    title: str
    text: str
    alt: str
    code: str
    benchmark: bool = False


PICTURES = (
    Picture(
        "predicted_vs_observed",
        "Predicted against observed",
        "Points on the dashed line are predicted as observed. Labels name the genes that change most, those with the "
        "largest errors (red) and the perturbed genes (bold).",
        "Scatter of predicted against observed log-fold-changes of one double perturbation, most points near the "
        "diagonal, with"
        "the names of the most changed and the most missed genes.",
        "scapp.pl.predicted_vs_observed(\n    predicted,\n    double,\n    observed=effects,\n)",
    ),
    Picture(
        "predicted_profile",
        "Predicted profile",
        "The most changed genes with the intervals that should contain 80 % of the observed values, here with the "
        "observations. For a perturbation that was not measured, only the predictions are shown.",
        "Twenty genes, each with a dot for the predicted log-fold-change, a bar for its interval and a diamond for "
        "the observed"
        "value.",
        "scapp.pl.predicted_profile(\n    predicted,\n    double,\n    observed=effects,\n)",
    ),
    Picture(
        "attention",
        "Attention",
        "The genes that a prediction attends to most. The perturbed genes come first by construction; the genes "
        "after them are hypotheses, not evidence of regulation.",
        "Twenty genes ranked by attention on a logarithmic scale; the two perturbed genes, in red, have nearly all "
        "of it.",
        "scapp.pl.attention(predicted, double)",
    ),
    Picture(
        "attention_heatmap",
        "Attention over perturbations",
        "Columns are perturbations, and rows are the genes that at least one of them attends to most; black dots "
        "mark the perturbed genes. Rows with one color across all columns are genes that everything attends to.",
        "Heat map of the attention of twelve double perturbations to some thirty genes; the cells of perturbed genes "
        "are the"
        "brightest, a few genes are attended to by all perturbations, and many cells are grey.",
        "scapp.pl.attention_heatmap(\n    predicted,\n    predicted.obs_names[:12],\n    n_genes=4,\n)",
    ),
    Picture(
        "attention_heatmap_relative",
        "Specific attention",
        "The same map relative to the mean over perturbations: genes that everything attends to are white, those "
        "specific to this perturbation orange, and those specific to other perturbations purple.",
        "Heat map of the attention relative to its mean over perturbations, purple and white nearly everywhere, and "
        "orange at the perturbed"
        "genes and a few others.",
        "scapp.pl.attention_heatmap(\n    predicted,\n    predicted.obs_names[:12],\n    n_genes=4,\n"
        "    relative=True,\n)",
    ),
    Picture(
        "attention_subnetwork",
        "Attention in the network",
        "Paths from the perturbed genes, on the left, to the genes with the most attention and those with the "
        "largest predicted change. Node size shows attention, and color the predicted change.",
        "A network in columns: two perturbed genes on the left, and step by step the genes that paths lead to, "
        "colored by"
        "predicted log-fold-change.",
        "scapp.tl.attention_subnetwork(\n    predicted,\n    double,\n    network=model.network,\n"
        "    n_attended=6,\n    n_changed=6,\n)\n"
        "scapp.pl.attention_subnetwork(predicted, double)",
    ),
    Picture(
        "explanation",
        "Contributions to a predicted value",
        "The denoised effects of the perturbed genes alone come from the measured singles; training doubles add to "
        "them or subtract from them. The bars sum to the prediction.",
        "Bars of the largest contributions to one predicted value, each beginning where the one above ends, down to "
        "the prediction.",
        'gene = predicted.to_df("predicted_lfc").loc[double].abs().idxmax()\n'
        "table = scapp.tl.explain(model, double, gene)\nscapp.pl.explanation(table)",
    ),
    Picture(
        "interaction_map",
        "Map of interactions",
        "The magnitude of the predicted interaction of each pair: in the middle of the scale the effects add up, "
        "above it the pair does more than their sum, and below it less.",
        "Heat map of twelve by twelve genes, clustered, colored by the magnitude of the interaction of each pair.",
        'genes = [name for name in train.obs_names if "+" not in name][:12]\n'
        "pairs = list(itertools.combinations(genes, 2))\n"
        "table = scapp.tl.genetic_interactions(train, pairs, model=model)\nscapp.pl.interaction_map(table)",
    ),
    Picture(
        "perturbation_embedding",
        "Embedding of perturbations",
        "Perturbations that the model considers similar lie together. Neighbours, modules and layout are scanpy's, "
        "computed by {func}`scapp.tl.perturbation_embedding`.",
        "Perturbations as points in two dimensions, in a handful of modules, each with its color and its marker.",
        'scapp.tl.perturbation_embedding(effects, model)\nscapp.pl.perturbation_embedding(effects, color="module")',
    ),
    Picture(
        "network_coverage",
        "Coverage of the network",
        "The upper part shows how many neighbours the genes have, and the lower part which genes lack neighbours or "
        "were not measured. A perturbed gene without neighbours or features is predicted like an average gene.",
        "Bars of the share of genes by number of neighbours, for perturbed and for all genes, above bars of the "
        "share of genes"
        "without neighbours and not measured, with the names of the perturbed ones.",
        'strong = truth.network[truth.network["weight"].abs() > 0.6]\n'
        'scapp.pp.add_network(effects, strong, key_added="strong")\n'
        'scapp.pl.network_coverage(effects, network_key="strong")',
    ),
    Picture(
        "training_history",
        "Training history",
        "Training keeps the weights of the epoch with the lowest error on held-out perturbations, which is marked.",
        "Two falling curves of the loss over epochs, of training and of held-out perturbations, the lowest point of "
        "the latter"
        "marked.",
        "scapp.pl.training_history(model.history)",
    ),
    Picture(
        "scores",
        "Scores of methods",
        "Mean errors with 95 % intervals over perturbations, for the model and simple baselines. `ceiling` adds a "
        "line for the noise of the data.",
        "Bars of the mean error of four methods on held-out doubles, with intervals.",
        """\
found = {
    "mean": scapp.baselines.Mean().fit(train).predict(held_out),
    "additive": scapp.baselines.Additive().fit(train).predict(held_out),
    "shrunk additive": scapp.baselines.ShrunkAdditive().fit(train).predict(held_out),
    "APP": predicted,
}
observed = effects[held_out].layers["lfc"]
table = pd.concat(
    pd.DataFrame(
        {
            "method": name,
            "kind": "held-out doubles",
            "perturbation": held_out,
            "l2": scapp.metrics.l2(adata.layers["predicted_lfc"], observed),
        }
    )
    for name, adata in found.items()
)
scapp.pl.scores(table)""",
    ),
    Picture(
        "benchmark_ratios",
        "Methods on a benchmark",
        "Errors relative to the additive model, with 95 % intervals over perturbations. The dotted line is the error "
        "that even a perfect prediction would have because of noise in the data.",
        "Six methods, the best on top, each with a dot and an interval for its error relative to the additive model.",
        'summary = scapp.benchmark.summarise(results, reference="additive")\n'
        "limits = scapp.benchmark.ceilings(results)\n"
        "scapp.pl.benchmark_ratios(summary, ceiling=limits)",
        benchmark=True,
    ),
)


def page() -> str:
    """Write the page, in MyST Markdown."""
    return f"""\
# Gallery

<!-- Written by docs/make_gallery.py. Change it there. -->

This page shows every plot of {{mod}}`scapp.pl` with the code that draws it. All functions take `ax`, `show`, `save` and `return_fig`, as
the plots of scanpy {{cite:p}}`Wolf2018` do. The pictures are legible in a journal's column of 3.5 inches and use colors that color-blind
readers can tell apart {{cite:p}}`Wong2011`. The functions draw what is in the data, and compute no results of
their own.

The data are simulated, so that everything can be drawn in a few minutes. The pictures show what the plots look like, but nothing
about real screens; for those, see {{doc}}`benchmarks`.

```python
{SETUP.rstrip()}
```

{_grid([p for p in PICTURES if not p.benchmark])}

## Benchmark

This picture needs a table of scores, here from a small benchmark:

```python
{BENCHMARK.rstrip()}
```

{_grid([p for p in PICTURES if p.benchmark])}
"""


def _grid(pictures: list[Picture]) -> str:
    return "::::{grid} 1 1 2 2\n:gutter: 3\n\n" + "\n\n".join(map(_card, pictures)) + "\n\n::::"


def _card(picture: Picture) -> str:
    return f"""\
:::{{grid-item-card}} {picture.title}

```{{image}} {(FOLDER / picture.name).as_posix()}.png
:alt: {picture.alt}
:width: 100%
```

{picture.text}

```python
{picture.code}
```

:::"""


def draw(picture: Picture, objects: dict[str, Any]) -> bytes:
    """Run the code of a picture on the objects of the set-up; the figure as png, small enough for a page."""
    import matplotlib.pyplot as plt
    from PIL import Image

    plt.close("all")
    exec(picture.code, objects)
    buffer = io.BytesIO()
    # The same bytes whenever the same is drawn.
    plt.gcf().savefig(buffer, format="png", dpi=200, metadata={"Software": None})
    small = io.BytesIO()
    Image.open(buffer).convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return small.getvalue()


def main() -> None:
    """Draw the pictures and write the page."""
    parser = argparse.ArgumentParser(description="Draw the gallery of the documentation.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="pictures to draw; all if none is named")
    names = parser.parse_args().names
    known = [picture.name for picture in PICTURES]
    if unknown := set(names) - set(known):
        parser.error(f"there is no picture {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    os.environ["MPLBACKEND"] = "agg"
    import scanpy as sc

    sc.settings.autoshow = False
    chosen = [picture for picture in PICTURES if not names or picture.name in names]
    (DOCS / FOLDER).mkdir(parents=True, exist_ok=True)
    target = (DOCS / FOLDER).resolve()
    objects: dict[str, Any] = {}
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        try:
            exec(SETUP, objects)
            if any(picture.benchmark for picture in chosen):
                exec(BENCHMARK, objects)
            for picture in chosen:
                (target / f"{picture.name}.png").write_bytes(draw(picture, objects))
        finally:
            os.chdir(here)
    (DOCS / "gallery.md").write_text(page())


if __name__ == "__main__":
    main()
