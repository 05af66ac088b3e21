"""What a method does: fit to the training perturbations of a split, predict the held-out ones, say what it cost."""

from __future__ import annotations

import hashlib
import inspect
import json
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from scapp import baselines
from scapp._genes import shorten
from scapp._keys import Key
from scapp._perturbations import parse_label
from scapp.benchmark._predictions_file import read_predictions

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from scapp.benchmark._sources import Damage
    from scapp.benchmark._task import Kind, Split, Task

N_ATTENTION_GENES = 20
# What a fit says of every split, and the table of scores says better.
CHATTER = (
    ".*measured single.*", ".*not measured.*", ".*does not have many workers.*", ".*were not perturbed alone.*",
    ".*share no gene with.*", ".*similar to none.*", ".*to compare .* with.*", ".*configure_optimizers.*",
    ".*has no features.*", ".*no edges, no features.*", ".*[Nn]othing is known about.*", ".*no embedding.*",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Predicted:
    """Predictions of the held-out perturbations of a split over the scored genes, of shape (n_test, n_scored).

    `std` is the predicted standard deviation; `attention_genes` and `attention_scores`, of shape (n_test, 20), are the
    genes of the highest attention, and `single_genes` and `single_scores`, of shape (20,), those of the single perturbation
    `single` that was trained on; `parameters` counts what is trained or solved for. NaN or None where a method has none.
    """

    lfc: NDArray[np.float32]
    std: NDArray[np.float32] | None = None
    attention_genes: NDArray[np.str_] | None = None
    attention_scores: NDArray[np.float32] | None = None
    single: NDArray[np.str_] | None = None
    single_genes: NDArray[np.str_] | None = None
    single_scores: NDArray[np.float32] | None = None
    fit_seconds: float = float("nan")
    predict_ms: float = float("nan")
    parameters: float = float("nan")


@dataclass(frozen=True, eq=False)
class Method(ABC):
    """A method that takes part; subclasses say where it applies and how it predicts.

    Parameters
    ----------
    name
        How tables call it.
    group
        ``"baseline"``, ``"app"``, ``"ablation"``, ``"paper"`` (the paper's form with a part replaced), ``"network"``,
        ``"embedding"`` or ``"external"``.
    """

    name: str
    group: str
    # Whose code a prediction depends on: a change there makes recorded predictions stale.
    rooms: ClassVar[tuple[str, ...]] = ("baselines", "network", "pp")
    torch: ClassVar[bool] = False

    @property
    def needs_network(self) -> bool:
        """Whether the method learns from the network or the gene features of a task."""
        return False

    def prepare(self, task: Task) -> None:
        """Load and build what is not part of the fit, so that it is not timed."""
        if self.needs_network:
            task.inputs()

    @abstractmethod
    def applies(self, task: Task) -> bool:
        """Whether the method has anything to say about a task."""

    @abstractmethod
    def predict(self, task: Task, split: Split) -> Predicted:
        """Fit to the training perturbations of a split and predict the held-out ones."""

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """What the method is made of, as plain values."""

    def fingerprint(self) -> str:
        """A hash of the options, to recognise predictions that were made with others."""
        return hashlib.sha256(
            json.dumps([type(self).__name__, self.options()], sort_keys=True, default=str).encode()
        ).hexdigest()


@dataclass(frozen=True, eq=False)
class BaselineMethod(Method):
    """One of :mod:`scapp.baselines`, or anything else with `fit(effects)` and `predict(labels)`.

    Parameters
    ----------
    estimator, arguments
        The class, and the arguments that make it.
    kinds
        The kinds of task it applies to.
    networks
        Whether it needs the network or gene features.
    """

    estimator: type
    arguments: Mapping[str, Any] = field(default_factory=dict)
    kinds: tuple[Kind, ...] = ("combinations", "unseen", "seen")
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
        return timed(lambda: self.make(task).fit(train), task, split)

    def make(self, task: Task) -> Any:
        """A new estimator for a task."""
        return self.estimator(**self.arguments)


@dataclass(frozen=True, eq=False)
class SimilarityMethod(BaselineMethod):
    """A baseline that reads what APP learns from: the networks and the gene features of a task."""

    def make(self, task: Task) -> Any:
        assert task.sources is not None  # or the method would not apply
        keys = {"networks_key": task.sources.network_keys, "features_key": list(task.gene_features_key)}
        return self.estimator(**keys, **self.arguments)


@dataclass(frozen=True, eq=False)
class EmbeddingMethod(Method):
    """A linear decoder on a frozen table of gene embeddings.

    Parameters
    ----------
    table
        Embeddings: index = genes, columns = dimensions.
    """

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
    """:class:`scapp.model.APP` with options, on a network that may be damaged.

    Parameters
    ----------
    arguments
        Options of APP.
    damage
        Done to the network first.
    """

    rooms: ClassVar[tuple[str, ...]] = ("data", "model", "module", "network", "pp")
    torch: ClassVar[bool] = True
    arguments: Mapping[str, Any] = field(default_factory=dict)
    damage: Damage | None = None

    @property
    def needs_network(self) -> bool:
        return True

    def applies(self, task: Task) -> bool:
        # Where nothing is known about the noise, not to read it is the default.
        return task.sources is not None and (self.arguments.get("known_noise", True) or task.knows_noise)

    def options(self) -> dict[str, Any]:
        return {"damage": repr(self.damage), **self.arguments}

    def prepare(self, task: Task) -> None:
        import scapp.model  # noqa: F401  seconds of imports

        task.inputs(self.damage)

    def predict(self, task: Task, split: Split) -> Predicted:
        import scvi

        from scapp.model import APP

        parameters = inspect.signature(APP).parameters
        known = [name for name, of in parameters.items() if of.kind is of.KEYWORD_ONLY]
        unknown = [name for name in self.arguments if name not in known]
        if unknown:
            raise ValueError(f"APP has no option {shorten(unknown)}; it has {', '.join(known)}.")
        scvi.settings.seed = split.seed
        train = task.training(split, networks=True, damage=self.damage)

        def fit() -> APP:
            features = list(task.gene_features_key) or None
            assert task.sources is not None  # or the method would not apply
            APP.setup_anndata(
                train,
                control=None,
                layer=Key.layers.LFC,
                network_key=task.sources.network_keys,
                gene_features_key=features,
            )
            model = APP(train, **self.arguments)
            model.train(enable_progress_bar=False, accelerator="cpu")
            return model

        return timed(fit, task, split)


@dataclass(frozen=True, eq=False)
class FileMethod(Method):
    """Predictions that were made elsewhere, from a file.

    Parameters
    ----------
    path
        As :func:`scapp.benchmark.read_predictions` reads it.
    task
        Name of the task that the file is of; any if None.
    """

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


def timed(fit: Any, task: Task, split: Split) -> Predicted:
    """Fit, predict the held-out perturbations, and take the times.

    Parameters
    ----------
    fit
        Returns something with a `predict(labels)` whose result has ``layers["predicted_lfc"]``.
    task, split
        What to predict.

    Raises
    ------
    ValueError
        If the prediction lacks a scored gene, or has another order of perturbations.
    """
    with warnings.catch_warnings():
        for message in CHATTER:
            warnings.filterwarnings("ignore", message=message)
        begin = time.perf_counter()
        model = fit()
        middle = time.perf_counter()
        predicted = model.predict(list(split.test))
        end = time.perf_counter()
        alone = None
        if Key.layers.ATTENTION in predicted.layers and (label := largest_single(task, split)) is not None:
            alone = model.predict([label])
    times = {"fit_seconds": middle - begin, "predict_ms": 1000 * (end - middle) / len(split.test)}
    found = over_scored_genes(predicted, task, split, parameters=_n_parameters(model), **times)
    if alone is None:
        return found
    genes, scores = most_attended(alone)
    return replace(found, single=np.array(label), single_genes=genes[0], single_scores=scores[0])


def largest_single(task: Task, split: Split) -> str | None:
    """The single perturbation of the largest effect that a task of combinations trains on; None for other tasks."""
    singles = [label for label in split.train if len(parse_label(label, control=None)) == 1]
    if task.kind != "combinations" or not singles:
        return None
    effects = np.nan_to_num(task.effects[singles].layers[Key.layers.LFC])
    return singles[int(np.linalg.norm(effects, axis=1).argmax())]


def most_attended(predicted: AnnData) -> tuple[NDArray[np.str_], NDArray[np.float32]]:
    """Names and attention of the genes that each prediction attends to most, of shape (n_predictions, 20)."""
    attention = np.asarray(predicted.layers[Key.layers.ATTENTION], dtype=np.float32)
    order = np.argsort(-attention, axis=1, kind="stable")[:, :N_ATTENTION_GENES]
    return np.asarray(predicted.var_names, dtype=str)[order], np.take_along_axis(attention, order, axis=1)


def over_scored_genes(
    predicted: AnnData,
    task: Task,
    split: Split,
    *,
    fit_seconds: float = float("nan"),
    predict_ms: float = float("nan"),
    parameters: float = float("nan"),
) -> Predicted:
    """What an AnnData of predictions says of the scored genes of a task."""
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
    if std is not None:
        std = np.asarray(std, dtype=np.float32)
    names = scores = None
    if Key.layers.ATTENTION in predicted.layers:
        names, scores = most_attended(predicted)
    return Predicted(lfc, std, names, scores, fit_seconds=fit_seconds, predict_ms=predict_ms, parameters=parameters)


def _n_parameters(model: Any) -> float:
    """Return how many parameters a model has learned; NaN for one that does not tell."""
    return float(getattr(model, "n_parameters", float("nan")))
