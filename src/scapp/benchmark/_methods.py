"""Methods of the benchmark by name: baselines, APP, its ablations, and APP on damaged networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from scapp import baselines, embeddings
from scapp._genes import shorten
from scapp._perturbations import near_matches
from scapp.benchmark._method import AppMethod, BaselineMethod, EmbeddingMethod, FileMethod, Method, SimilarityMethod
from scapp.benchmark._method_gears import GearsMethod
from scapp.benchmark._sources import Damage

COMBINATIONS = ("combinations",)

# Options of BaselineMethod. An additive model needs the singles that it sums; of a single perturbation that was measured
# before, it repeats the measurement.
BASELINES: dict[str, dict[str, Any]] = {
    "no change": {"estimator": "NoChange"},
    "mean": {"estimator": "Mean"},
    "geometric median": {"estimator": "GeometricMedian"},
    "matching mean": {"estimator": "MatchingMean", "kinds": COMBINATIONS},
    "partner mean": {"estimator": "PartnerMean", "kinds": COMBINATIONS},
    "additive": {"estimator": "Additive", "kinds": ("combinations", "seen")},
    "shrunk additive": {"estimator": "ShrunkAdditive", "kinds": COMBINATIONS},
    "additive, denoised": {"estimator": "DenoisedAdditive", "kinds": ("combinations", "seen")},
    "linear model": {"estimator": "LinearModel"},
    "nearest perturbation": {"estimator": "NearestPerturbation", "networks": True},
    "kernel ridge": {"estimator": "KernelRidge", "networks": True},
    "pair kernel": {"estimator": "PairKernel", "kinds": COMBINATIONS},
    "Gaussian process": {"estimator": "GaussianProcess", "kinds": COMBINATIONS},
}
# Options of scapp.model.APP.
APP: dict[str, dict[str, Any]] = {
    "APP": {},
    "APP, paper": {"preset": "paper"},
}
# The default without a part, and the paper's form with a part replaced, as in its table 2.
ABLATIONS: dict[str, dict[str, Any]] = {
    "APP, no attention": {"attention": False},
    "APP, attention alone": {"closed_form": False},
    "APP, no known noise": {"known_noise": False},
}
PAPER_ABLATIONS: dict[str, dict[str, Any]] = {
    "APP, paper, random embeddings": {"preset": "paper", "encoder": "random"},
    "APP, paper, identity embeddings": {"preset": "paper", "encoder": "identity"},
    "APP, paper, no attention": {"preset": "paper", "pooling": "mean"},
    "APP, paper, MLP decoder": {"preset": "paper", "decoder": "mlp"},
}
DAMAGES: dict[str, Damage] = {
    "APP, 10 % edges removed": Damage("remove", 0.1),
    "APP, 25 % edges removed": Damage("remove", 0.25),
    "APP, 10 % edges added": Damage("add", 0.1),
    "APP, 25 % edges added": Damage("add", 0.25),
    "APP, edges rewired": Damage("rewire"),
}
# What a quick run is made of: the strongest simple methods, and APP.
CORE = ("no change", "mean", "additive", "shrunk additive", "linear model", "kernel ridge", "pair kernel", "APP")
GROUPS = ("baseline", "app", "ablation", "paper", "network", "embedding", "external")


def registered() -> list[Method]:
    """Every method that needs nothing but the task, in the order of the tables."""
    found: list[Method] = []
    for name, options in BASELINES.items():
        chosen = {**options, "estimator": getattr(baselines, options["estimator"])}
        kind = SimilarityMethod if chosen.get("networks") else BaselineMethod
        found.append(kind(name, "baseline", **chosen))
    found += [AppMethod(name, "app", arguments=options) for name, options in APP.items()]
    found += [AppMethod(name, "ablation", arguments=options) for name, options in ABLATIONS.items()]
    found += [AppMethod(name, "paper", arguments=options) for name, options in PAPER_ABLATIONS.items()]
    found += [AppMethod(name, "network", damage=damage) for name, damage in DAMAGES.items()]
    return found


def methods() -> pd.DataFrame:
    """The methods that :func:`run` knows by name.

    Embeddings and predictions from files take part through :func:`embedding_method` and :func:`predictions_method`.

    Returns
    -------
    One row a method: ``method``, ``group``, and ``options`` as text.
    """
    return pd.DataFrame(
        {
            "method": [method.name for method in registered()],
            "group": [method.group for method in registered()],
            "options": [
                ", ".join(
                    f"{key}={value!r}" if not isinstance(value, str) else f"{key}={value}"
                    for key, value in method.options().items()
                    if value != "None"
                )
                for method in registered()
            ],
        }
    )


def embedding_method(name: str, table: pd.DataFrame | Path | str, **reading: Any) -> Method:
    """A linear decoder on frozen gene embeddings, as a method for :func:`run`.

    Parameters
    ----------
    name
        Of the embedding; the method is called ``"embedding: <name>"``.
    table
        Embeddings (index = genes, columns = dimensions), or the path of a file of them.
    **reading
        Of a path: options of :func:`scapp.embeddings.read`, such as `format`.

    Returns
    -------
    A method of the group ``"embedding"``.

    Raises
    ------
    ValueError
        If the file cannot be read; :func:`scapp.embeddings.read` says why.
    """
    if not isinstance(table, pd.DataFrame):
        table = embeddings.read(table, **reading)
    elif reading:
        raise TypeError(f"{', '.join(reading)} say how a file is read, but a table was given.")
    return EmbeddingMethod(f"embedding: {name}", "embedding", table=table)


def predictions_method(name: str, path: Path | str, *, task: str | None = None) -> Method:
    """Predictions that were made elsewhere, as a method for :func:`run`.

    Parameters
    ----------
    name
        Of the method.
    path
        File of predictions, as :func:`read_predictions` reads it; where it holds several splits, it names that of each
        row.
    task
        Name of the task that the predictions are of; if None, the method takes part in each task.

    Returns
    -------
    A method of the group ``"external"``.

    Raises
    ------
    FileNotFoundError
        If there is no such file. What is in it is checked when it is run.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file of predictions {str(path)!r}.")
    return FileMethod(name, "external", path=Path(path), task=task)


def gears_method(cells: Mapping[str, Path | str], *, python: Path | str, **options: Any) -> Method:
    """GEARS :cite:p:`Roohani2024` in an environment of its own, as a method for :func:`run`.

    Parameters
    ----------
    cells
        For each screen, by the name that :func:`screen` was given, the h5ad file. GEARS takes part in the tasks of these
        screens but for seen singles.
    python
        The Python of the environment that has GEARS.
    **options
        Options of :func:`run_gears`, which describes what GEARS needs.

    Returns
    -------
    The method ``"GEARS"``, of the group ``"external"``.

    Raises
    ------
    FileNotFoundError
        If there is no such file of cells.
    """
    for path in cells.values():
        if not Path(path).is_file():
            raise FileNotFoundError(f"There is no file {str(path)!r} with the cells for GEARS.")
    files = {name: Path(path) for name, path in cells.items()}
    return GearsMethod("GEARS", "external", cells=files, python=python, arguments=options)


def choose(asked: Iterable[str | Method] | None, *, quick: bool = False) -> list[Method]:
    """Methods by name or group, and methods given as such.

    Parameters
    ----------
    asked
        Names, groups, :class:`Method`; None for every registered method (of a quick run, for the core).
    quick
        See `asked`.

    Raises
    ------
    ValueError
        If a name is unknown, or two methods have the same name.
    """
    known = registered()
    if asked is None:
        return [method for method in known if not quick or method.name in CORE]
    if isinstance(asked, str):
        raise TypeError(f"Expected a list of methods, found the text {asked!r}. Pass [{asked!r}].")
    chosen: dict[str, Method] = {}
    for item in asked:
        if isinstance(item, Method):
            if item.name in chosen and chosen[item.name].fingerprint() != item.fingerprint():
                raise ValueError(f"Two methods are called {item.name!r}. Give each a name of its own.")
            found = [item]
        else:
            found = [
                method
                for method in known
                if item in (method.name, method.group) or (item == "core" and method.name in CORE)
            ]
        if not found:
            names = [method.name for method in known]
            like = near_matches(str(item), [*names, *GROUPS])
            hint = f" Did you mean {' or '.join(map(repr, like))}?" if like else ""
            raise ValueError(
                f"There is no method or group {item!r}.{hint} Groups: core, {', '.join(dict.fromkeys(m.group for m in known))}. "
                f"Methods: {shorten(names, len(names))}."
            )
        chosen.update({method.name: method for method in found})
    return list(chosen.values())
