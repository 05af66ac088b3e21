"""The workflow of ``scapp demo``, from a screen to scored predictions."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd

from scapp import baselines, datasets, metrics, pl, pp
from scapp._anndata_files import read_anndata
from scapp._effects import effects_layer
from scapp._files import put_folder
from scapp._genes import measured_mask
from scapp._keys import Key
from scapp._labels import parse_labels, perturbed_genes
from scapp._training_effects import read_effects

if TYPE_CHECKING:
    from scapp.baselines import Baseline
    from scapp.model import APP

KINDS = ("held-out combinations", "unseen genes")
MAX_GENES = 2000
MIN_PERTURBATIONS = 5
N_SCORED = 1000

Report = Callable[[str], None]


@dataclass(frozen=True)
class Screen:
    """Effects and their network, ready for training."""

    effects: ad.AnnData
    perturbation_key: str


def simulated_screen(seed: int, report: Report, **options: Any) -> Screen:
    """Simulate a screen, and return its effects."""
    cells, truth = datasets.simulated_perturb_seq(seed=seed, **options)
    report(
        f"Simulated {cells.n_obs:,} cells x {cells.n_vars} genes, "
        f"{cells.obs['perturbation'].nunique() - 1} perturbations, {len(truth.network):,} edges"
    )
    effects = pp.pseudobulk(cells, batch_key="batch")
    pp.add_network(effects, truth.network, directed=True)
    return Screen(effects, "perturbation")


def screen_of(
    data: Path,
    network: Path,
    report: Report,
    *,
    perturbation_key: str = Key.obs.PERTURBATION,
    control: str | None = "control",
    layer: str | None = None,
    batch_key: str | None = None,
    sep: str = "+",
    aliases: Path | None = None,
) -> Screen:
    """Read effects from a file of cells, or of effects if `control` is None."""
    for path in (data, network):
        if not Path(path).exists():
            raise FileNotFoundError(f"There is no file {str(path)!r}.")
    adata = read_anndata(data)
    report(f"Read {adata.n_obs:,} observations x {adata.n_vars:,} genes")
    if control is None:
        layer = effects_layer(adata, None, layer)
        effects = read_effects(adata, layer=layer, perturbation_key=perturbation_key, sep=sep).to_anndata()
        effects.obs[perturbation_key] = effects.obs_names
    else:
        effects = pp.pseudobulk(
            adata, perturbation_key=perturbation_key, control=control, layer=layer, batch_key=batch_key, sep=sep,
            on_few_cells="drop",
        )  # fmt: skip
    if effects.n_vars > MAX_GENES:
        effects = pp.select_genes(effects, MAX_GENES, perturbation_key=perturbation_key, control=None)
    effects = pp.add_unmeasured_genes(effects, perturbation_key=perturbation_key, control=None)
    report(
        f"{effects.n_obs} perturbations x {effects.n_vars:,} genes, {int(measured_mask(effects).sum()):,} of them measured"
    )
    pp.add_network(effects, network, aliases=aliases, perturbation_key=perturbation_key, control=None)
    report(str(pp.report(effects, "network")))
    return Screen(effects, perturbation_key)


def hold_out(effects: ad.AnnData, seed: int) -> dict[str, list[str]]:
    """Hold out a fifth of the combinations, and a fifth of the singles, whose genes then occur nowhere in training.

    Returns the held-out perturbations of each kind (empty if there are fewer than five), and under ``"left out"`` the
    combinations with unseen genes, which are neither trained on nor scored.
    """
    rng = np.random.default_rng(seed)
    parsed = dict(zip(effects.obs_names, parse_labels(effects.obs_names, control=None), strict=True))
    singles = [name for name, genes in parsed.items() if len(genes) == 1]
    combinations = [name for name, genes in parsed.items() if len(genes) > 1]

    def a_fifth(names: list[str]) -> list[str]:
        if len(names) < MIN_PERTURBATIONS:
            return []
        return sorted(rng.choice(names, size=max(1, len(names) // 5), replace=False).tolist())

    unseen = a_fifth(singles)
    genes = set(perturbed_genes(parsed[name] for name in unseen))
    left_out = [name for name in combinations if genes & set(parsed[name])]
    rest = [name for name in combinations if name not in set(left_out)]
    return {KINDS[0]: a_fifth(rest), KINDS[1]: unseen, "left out": left_out}


def train_and_score(screen: Screen, *, seed: int, progress_bar: bool = True) -> tuple[APP, ad.AnnData, pd.DataFrame]:
    """Train on the rest, predict the held-out perturbations, and score the model and the baselines.

    Returns the trained model, the predictions (with the observed effects in ``layers["lfc"]``) and the table of scores.
    """
    from scapp.model import APP

    held = hold_out(screen.effects, seed)
    test = [*held[KINDS[0]], *held[KINDS[1]]]
    train = screen.effects[~screen.effects.obs_names.isin({*test, *held["left out"]})].copy()
    APP.setup_anndata(train, perturbation_key=screen.perturbation_key, control=None, layer=Key.layers.LFC)
    model = APP(train)
    model.train(enable_progress_bar=progress_bar)
    # Without anything held out the measured perturbations themselves are predicted, and there is nothing to score.
    asked = test or train.obs_names.tolist()
    predicted = model.predict(asked)
    predicted.layers[Key.layers.LFC] = screen.effects[asked].layers[Key.layers.LFC].copy()
    return model, predicted, _scores(predicted, train, held, screen.perturbation_key)


def _scores(predicted: ad.AnnData, train: ad.AnnData, held: dict[str, list[str]], key: str) -> pd.DataFrame:
    measured = measured_mask(train)
    expression = train.var[Key.var.CONTROL_MEAN].to_numpy()[measured] if Key.var.CONTROL_MEAN in train.var else None
    scored = None if expression is None else metrics.top_expressed_genes(expression, N_SCORED)
    rows = []
    for kind in KINDS:
        names = held[kind]
        if not names:
            continue
        methods: dict[str, Baseline] = {"mean": baselines.Mean()}
        if kind == KINDS[0]:
            methods = {"additive": baselines.Additive(), "shrunk additive": baselines.ShrunkAdditive(), **methods}
        lfc = {name: method.fit(train, perturbation_key=key).predict(names) for name, method in methods.items()}
        lfc["APP"] = predicted[names]
        observed = predicted[names].layers[Key.layers.LFC][:, measured]
        for method, adata in lfc.items():
            values = adata.layers[Key.layers.PREDICTED_LFC][:, measured]
            part = pd.DataFrame({"kind": kind, "method": method, "perturbation": names})
            part["l2"] = metrics.l2(values, observed, genes=scored)
            part["pearson_delta"] = metrics.pearson_delta(values, observed, genes=scored)
            rows.append(part)
    if not rows:
        return pd.DataFrame(columns=["kind", "method", "perturbation", "l2"])
    table = pd.concat(rows, ignore_index=True)
    few = scored is None or len(scored) == measured.sum()
    table.attrs["genes"] = f"all {measured.sum():,} genes" if few else f"the {N_SCORED:,} highest expressed genes"
    return table


def write(folder: Path, model: APP, predicted: ad.AnnData, scores: pd.DataFrame) -> list[str]:
    """Write predictions, model, scores and pictures into a folder; returns their names."""
    predicted.write_h5ad(folder / "predictions.h5ad")
    model.save(str(folder / "model"), overwrite=True, save_anndata=False)
    scores.to_csv(folder / "scores.csv", index=False)
    strongest = predicted.obs_names[np.nanmean(np.abs(predicted.layers[Key.layers.LFC]), axis=1).argmax()]
    combined = predicted.obs_names[predicted.obs[Key.obs.N_PERTURBED_GENES] > 1]
    shown = combined[0] if len(combined) else strongest
    pictures = {
        "predicted_vs_observed.png": lambda path: pl.predicted_vs_observed(predicted, strongest, show=False, save=path),
        "attention.png": lambda path: pl.attention(predicted, shown, show=False, save=path),
    }
    if len(scores):
        pictures["scores.png"] = lambda path: pl.scores(scores, show=False, save=path)
    else:
        pictures["training.png"] = lambda path: pl.training_history(model.history, show=False, save=path)
    for name, draw in pictures.items():
        draw(folder / name)
    return ["predictions.h5ad", "model", "scores.csv", *pictures]


@contextmanager
def complete_folder(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a folder that appears under its name only when everything is in it; FileExistsError if it is there, with files in it."""
    output = Path(output)
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"{str(output)!r} is a file. Name a folder with --output.")
    if output.exists() and any(output.iterdir()) and not overwrite:
        raise FileExistsError(
            f"The folder {str(output)!r} is not empty. Name another with --output, or pass --overwrite."
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        yield scratch
        put_folder(scratch, output, overwrite=True)
        output.chmod(0o755)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
