"""Methods: fit to the training perturbations of a split, predict the held-out ones, and say what it cost."""

from __future__ import annotations

import hashlib
import inspect
import json
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from scapp import baselines, resources
from scapp._genes import shorten
from scapp._keys import Key
from scapp._labels import did_you_mean, refuse_text
from scapp.benchmark._predictions import read_predictions

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from scapp.benchmark._task import Kind, Split, Task
    from scapp.model import APP as Model

COMBINATIONS = ("combinations",)
# Name of the array of probabilities in a file of predictions.
P_CHANGE = "p_change"
# Options of BaselineMethod. An additive model needs the singles that it sums; for a single perturbation that was measured
# before, it repeats the measurement.
BASELINES: dict[str, dict[str, Any]] = {
    "no change": {"estimator": baselines.NoChange},
    "mean": {"estimator": baselines.Mean},
    "geometric median": {"estimator": baselines.GeometricMedian},
    "matching mean": {"estimator": baselines.MatchingMean, "kinds": COMBINATIONS},
    "partner mean": {"estimator": baselines.PartnerMean, "kinds": COMBINATIONS},
    "additive": {"estimator": baselines.Additive, "kinds": ("combinations", "seen", "context")},
    "shrunk additive": {"estimator": baselines.ShrunkAdditive, "kinds": COMBINATIONS},
    "additive, denoised": {"estimator": baselines.DenoisedAdditive, "kinds": ("combinations", "seen", "context")},
    "linear model": {"estimator": baselines.LinearModel},
    "nearest perturbation": {"estimator": baselines.NearestPerturbation, "networks": True},
    "kernel ridge": {"estimator": baselines.KernelRidge, "networks": True},
    "pair kernel": {"estimator": baselines.PairKernel, "kinds": COMBINATIONS},
    "Gaussian process": {"estimator": baselines.GaussianProcess, "kinds": COMBINATIONS},
}
# Options of scapp.model.APP: the default, the paper's equations, and the default without a part.
APP: dict[str, dict[str, Any]] = {"APP": {}, "APP, paper": {"preset": "paper"}}
ABLATIONS: dict[str, dict[str, Any]] = {
    "APP, no attention": {"attention": False},
    "APP, attention alone": {"closed_form": False},
    "APP, no known noise": {"known_noise": False},
}
# Methods of a quick run: the strongest simple ones, and APP.
CORE = ("no change", "mean", "additive", "shrunk additive", "linear model", "kernel ridge", "pair kernel", "APP")
# Messages that a fit repeats for every split, and the table of scores says better.
IGNORED_WARNINGS = (
    ".*measured single.*", ".*not measured.*", ".*does not have many workers.*", ".*were not perturbed alone.*",
    ".*share no gene with.*", ".*similar to none.*", ".*to compare .* with.*", ".*configure_optimizers.*",
    ".*has no features.*", ".*no edges, no features.*", ".*[Nn]othing is known about.*", ".*no embedding.*",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Predicted:
    """Hold the predictions for the held-out perturbations of a split over the scored genes.

    Parameters
    ----------
    lfc, std
        Predicted log-fold-changes and their standard deviations, shape (n_test, n_scored); None if a method has no
        standard deviations.
    fit_seconds, predict_ms, parameters
        Seconds for the fit, milliseconds per prediction, and number of learned parameters; NaN if unknown.
    extra
        Additional arrays to store in the file of predictions.
    """

    lfc: NDArray[np.float32]
    std: NDArray[np.float32] | None = None
    fit_seconds: float = float("nan")
    predict_ms: float = float("nan")
    parameters: float = float("nan")
    extra: Mapping[str, NDArray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Method(ABC):
    """Describe a method of the benchmark; subclasses define when it applies and how it predicts.

    Parameters
    ----------
    name
        Its name in tables.
    group
        ``"baseline"``, ``"app"``, ``"ablation"``, ``"embedding"`` or ``"external"``.
    """

    name: str
    group: str
    # Folders of scapp whose code a prediction depends on: a change there makes recorded predictions stale.
    rooms: ClassVar[tuple[str, ...]] = ("baselines", "graph", "pp")
    torch: ClassVar[bool] = False

    @property
    def needs_network(self) -> bool:
        """Return whether the method learns from the network or the gene features of a task."""
        return False

    def prepare(self, task: Task) -> None:
        """Load and build everything that is not part of the fit, so that it is not timed."""
        if self.needs_network:
            task.inputs()

    @abstractmethod
    def applies(self, task: Task) -> bool:
        """Return whether the method can predict a task."""

    @abstractmethod
    def predict(self, task: Task, split: Split) -> Predicted:
        """Fit to the training perturbations of a split and predict the held-out ones."""

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return the options of the method as plain values."""

    def fingerprint(self) -> str:
        """Return a hash of the options, to detect predictions made with different ones."""
        return hashlib.sha256(
            json.dumps([type(self).__name__, self.options()], sort_keys=True, default=str).encode()
        ).hexdigest()


@dataclass(frozen=True, eq=False)
class BaselineMethod(Method):
    """Wrap one of :mod:`scapp.baselines`, or anything else with `fit(effects)` and `predict(labels)`.

    `kinds` are the kinds of task it applies to. With `networks` it reads the networks and gene features of a task.
    """

    estimator: type
    arguments: Mapping[str, Any] = field(default_factory=dict)
    kinds: tuple[Kind, ...] = ("combinations", "unseen", "seen", "context")
    networks: bool = False

    @property
    def needs_network(self) -> bool:
        return self.networks

    def applies(self, task: Task) -> bool:
        return task.kind in self.kinds and (task.sources is not None or not self.networks)

    def options(self) -> dict[str, Any]:
        return {"estimator": self.estimator.__qualname__, **self.arguments}

    def predict(self, task: Task, split: Split) -> Predicted:
        train = task.training(split, networks=self.networks)
        arguments = dict(self.arguments)
        if self.networks:
            assert task.sources is not None  # or the method would not apply
            arguments |= {"network_key": task.sources.network_keys, "gene_features_key": list(task.gene_features_key)}
        return timed(lambda: self.estimator(**arguments).fit(train), task, split)


@dataclass(frozen=True, eq=False)
class EmbeddingMethod(Method):
    """Wrap a linear decoder on a frozen table of gene embeddings (index = genes, columns = dimensions)."""

    table: pd.DataFrame

    def applies(self, task: Task) -> bool:
        return True

    def options(self) -> dict[str, Any]:
        return {"embedding": hashlib.sha256(pd.util.hash_pandas_object(self.table).to_numpy().tobytes()).hexdigest()}

    def predict(self, task: Task, split: Split) -> Predicted:
        train = task.training(split)
        return timed(lambda: baselines.EmbeddingLinear(self.table).fit(train), task, split)


@dataclass(frozen=True, eq=False)
class AppMethod(Method):
    """Use :class:`scapp.model.APP` with given options as a method.

    Parameters
    ----------
    name, group
        As in :class:`Method`.
    arguments
        Options of APP.
    """

    rooms: ClassVar[tuple[str, ...]] = ("graph", "model", "module", "pp")
    torch: ClassVar[bool] = True
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def needs_network(self) -> bool:
        """Return True."""
        return True

    def applies(self, task: Task) -> bool:
        """Return whether the task has a network and, for an ablation without known noise, has known noise."""
        return task.sources is not None and (self.arguments.get("known_noise", True) or task.knows_noise)

    def options(self) -> dict[str, Any]:
        """Return the options of APP."""
        return dict(self.arguments)

    def prepare(self, task: Task) -> None:
        """Import the model and build the inputs of a task."""
        import scapp.model  # noqa: F401  seconds of imports

        task.inputs()

    def predict(self, task: Task, split: Split) -> Predicted:
        """Train APP on the training perturbations of a split and predict the held-out ones."""
        import scvi

        from scapp.model import APP

        parameters = inspect.signature(APP).parameters
        known = [name for name, of in parameters.items() if of.kind is of.KEYWORD_ONLY]
        unknown = [name for name in self.arguments if name not in known]
        if unknown:
            raise ValueError(f"APP has no option {shorten(unknown)}; it has {', '.join(known)}.")
        scvi.settings.seed = split.seed
        train = task.training(split, networks=True)

        def fit() -> APP:
            assert task.sources is not None  # or the method would not apply
            APP.setup_anndata(
                train,
                control=None,
                layer=Key.layers.LFC,
                network_key=task.sources.network_keys,
                gene_features_key=list(task.gene_features_key),
            )
            model = APP(train, **self.arguments)
            model.train(enable_progress_bar=False, accelerator="cpu")
            return model

        def extra(model: Model, predicted: AnnData, task: Task, split: Split) -> dict[str, NDArray]:
            # The probabilities of the changes that count in this task, of shape (n_test, n_scored).
            likely = model.predict(list(split.test), change_threshold=task.change_threshold(split))
            chance = np.asarray(likely[:, list(task.genes)].layers[Key.layers.P_CHANGE], dtype=np.float16)
            return {P_CHANGE: chance, **self.extra(model, predicted, task, split)}

        return timed(fit, task, split, extra=extra)

    def extra(self, model: Model, predicted: AnnData, task: Task, split: Split) -> dict[str, NDArray]:
        """Return additional arrays to store, from the trained model and its predictions; none by default."""
        return {}


@dataclass(frozen=True, eq=False)
class FileMethod(Method):
    """Read predictions that were made elsewhere; `task` names the task of the file, any if None."""

    rooms: ClassVar[tuple[str, ...]] = ()
    path: Path
    task: str | None = None

    def applies(self, task: Task) -> bool:
        return self.task in (None, task.name)

    def options(self) -> dict[str, Any]:
        return {"sha256": hashlib.sha256(self.path.read_bytes()).hexdigest()}

    def predict(self, task: Task, split: Split) -> Predicted:
        lfc, std = read_predictions(self.path, split.test, task.genes.tolist(), seed=split.seed)
        return Predicted(lfc, std)


def timed(
    fit: Callable[[], Any], task: Task, split: Split, extra: Callable[..., dict[str, NDArray]] | None = None
) -> Predicted:
    """Fit, predict the held-out perturbations over the scored genes, and take the times.

    `fit` returns an object whose `predict(labels)` gives an AnnData with ``layers["predicted_lfc"]``. `extra` is called
    with it, that AnnData, the task and the split.
    """
    with warnings.catch_warnings():
        for message in IGNORED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        begin = time.perf_counter()
        model = fit()
        middle = time.perf_counter()
        predicted = model.predict(list(split.test))
        end = time.perf_counter()
        kept = extra(model, predicted, task, split) if extra is not None else {}
    if list(predicted.obs_names) != list(split.test):
        raise ValueError("The predictions are not those of the held-out perturbations, in their order.")
    missing = [gene for gene in task.genes if gene not in predicted.var_names]
    if missing:
        raise ValueError(
            f"The predictions lack {len(missing)} of the {len(task.genes)} scored genes: {shorten(missing)}."
        )
    scored = predicted[:, list(task.genes)]
    lfc = np.asarray(scored.layers[Key.layers.PREDICTED_LFC], dtype=np.float32)
    if not np.isfinite(lfc).all():
        raise ValueError(f"{int((~np.isfinite(lfc)).sum())} predicted log-fold-changes of scored genes are not finite.")
    std = scored.layers.get(Key.layers.PREDICTED_LFC_STD)
    return Predicted(
        lfc,
        None if std is None else np.asarray(std, dtype=np.float32),
        fit_seconds=middle - begin,
        predict_ms=1000 * (end - middle) / len(split.test),
        parameters=float(getattr(model, "n_parameters", float("nan"))),
        extra=kept,
    )


def registered() -> list[Method]:
    """Return every method that needs nothing but the task, in the order of the tables."""
    found: list[Method] = [BaselineMethod(name, "baseline", **options) for name, options in BASELINES.items()]
    found += [AppMethod(name, "app", arguments=options) for name, options in APP.items()]
    found += [AppMethod(name, "ablation", arguments=options) for name, options in ABLATIONS.items()]
    return found


def methods() -> pd.DataFrame:
    """List the methods that :func:`run` knows by name.

    Use :func:`embedding_method` for embeddings, :func:`predictions_method` for predictions from files, and
    :class:`AppMethod` for APP with other options.

    Returns
    -------
    One row per method: ``method``, ``group``, and ``options`` as text.
    """

    def text(method: Method) -> str:
        return ", ".join(f"{key}={value}" for key, value in method.options().items())

    rows = [(method.name, method.group, text(method)) for method in registered()]
    return pd.DataFrame(rows, columns=["method", "group", "options"])


def embedding_method(name: str, table: pd.DataFrame | Path | str, **reading: Any) -> Method:
    """Use a linear decoder on frozen gene embeddings as a method for :func:`run`.

    Parameters
    ----------
    name
        Name of the embedding; the method is called ``"embedding: <name>"``.
    table
        Embeddings (index = genes, columns = dimensions), or the path of a file of them.
    **reading
        For a path: options of :func:`scapp.resources.read_embedding`, such as `format`.

    Returns
    -------
    A method of the group ``"embedding"``.

    Raises
    ------
    ValueError
        If the file cannot be read; :func:`scapp.resources.read_embedding` says why.
    """
    if not isinstance(table, pd.DataFrame):
        table = resources.read_embedding(table, **reading)
    elif reading:
        raise TypeError(f"{', '.join(reading)} say how a file is read, but a table was given.")
    return EmbeddingMethod(f"embedding: {name}", "embedding", table=table)


def predictions_method(name: str, path: Path | str, *, task: str | None = None) -> Method:
    """Use predictions that were made elsewhere as a method for :func:`run`.

    Parameters
    ----------
    name
        Name of the method.
    path
        File of predictions in a format that :func:`read_predictions` reads; if it holds several splits, it names the
        split of each row.
    task
        Name of the task that was predicted; if None, the method takes part in each task.

    Returns
    -------
    A method of the group ``"external"``.

    Raises
    ------
    FileNotFoundError
        If the file does not exist. Its content is checked when the benchmark runs.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file of predictions {str(path)!r}.")
    return FileMethod(name, "external", path=Path(path), task=task)


def choose(asked: Iterable[str | Method] | None, *, quick: bool = False) -> list[Method]:
    """Return methods by name or group, and methods given as such; if None all registered, or the core if `quick`."""
    known = registered()
    if asked is None:
        return [method for method in known if not quick or method.name in CORE]
    refuse_text(asked, "methods")
    chosen: dict[str, Method] = {}
    for item in asked:
        if isinstance(item, Method):
            if item.name in chosen and chosen[item.name].fingerprint() != item.fingerprint():
                raise ValueError(f"Two methods are called {item.name!r}. Give each a name of its own.")
            found = [item]
        else:
            found = [m for m in known if item in (m.name, m.group) or (item == "core" and m.name in CORE)]
        if not found:
            names, groups = [m.name for m in known], ["core", *dict.fromkeys(m.group for m in known)]
            hint = did_you_mean(str(item), [*names, *groups])
            raise ValueError(
                f"There is no method or group {item!r}.{hint} Groups: {', '.join(groups)}. "
                f"Methods: {shorten(names, len(names))}."
            )
        chosen.update({method.name: method for method in found})
    return list(chosen.values())
