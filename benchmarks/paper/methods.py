"""Methods of the page beside those of scapp: APP with its attention, its paper form without a part, damaged networks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from anndata import AnnData
from benchmarks.paper.damage import Damage, DamagedApp
from numpy.typing import NDArray

from scapp.benchmark import AppMethod, Method, Split, Task
from scapp.model import APP

N_ATTENTION_GENES = 20
# The paper's form with a part replaced, as in its table 2.
PAPER_ABLATIONS = {
    "APP, paper, random embeddings": {"preset": "paper", "encoder": "random"},
    "APP, paper, identity embeddings": {"preset": "paper", "encoder": "identity"},
    "APP, paper, no attention": {"preset": "paper", "pooling": "mean"},
    "APP, paper, MLP decoder": {"preset": "paper", "decoder": "mlp"},
}
DAMAGES = {
    "APP, 10 % edges removed": Damage("remove", 0.1),
    "APP, 25 % edges removed": Damage("remove", 0.25),
    "APP, 10 % edges added": Damage("add", 0.1),
    "APP, 25 % edges added": Damage("add", 0.25),
    "APP, edges rewired": Damage("rewire"),
}


@dataclass(frozen=True, eq=False)
class AttendingApp(AppMethod):
    """Take APP as a method that keeps the genes that each prediction attends to most."""

    def extra(self, model: APP, predicted: AnnData, task: Task, split: Split) -> dict[str, NDArray]:
        """Return genes and scores of the highest attention, and those of the largest single that was trained on."""
        genes, scores = most_attended(predicted)
        kept = {"attention_genes": genes, "attention_scores": scores}
        singles = [label for label in split.train if "+" not in label]
        if task.kind == "combinations" and singles:
            effects = np.nan_to_num(task.effects[singles].layers["lfc"])
            label = singles[int(np.linalg.norm(effects, axis=1).argmax())]
            genes, scores = most_attended(model.predict([label]))
            kept |= {"single": np.array(label), "single_genes": genes[0], "single_scores": scores[0]}
        return kept


def most_attended(predicted: AnnData) -> tuple[NDArray[np.str_], NDArray[np.float32]]:
    """Return names and attention of the genes that each prediction attends to most, of shape (n_predictions, 20)."""
    attention = np.asarray(predicted.layers["attention"], dtype=np.float32)
    order = np.argsort(-attention, axis=1, kind="stable")[:, :N_ATTENTION_GENES]
    return np.asarray(predicted.var_names, dtype=str)[order], np.take_along_axis(attention, order, axis=1)


def page_methods() -> list[str | Method]:
    """Return all methods of the page: baselines, APP, its ablations, and APP on damaged networks."""
    found: list[str | Method] = ["baseline", AttendingApp("APP", "app"), "APP, paper", "ablation"]
    found += [AppMethod(name, "paper", arguments=options) for name, options in PAPER_ABLATIONS.items()]
    found += [DamagedApp(name, "network", damage=damage) for name, damage in DAMAGES.items()]
    return found
