"""The most similar training perturbation, against similarities that are known."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from scapp import baselines

GENES = list("ABCDEF")
VECTORS = pd.DataFrame(
    {"x": [1.0, 0.0, 0.6, 5.0, 0.0, 0.1], "y": [0.0, 2.0, 0.8, 5.0, 0.0, 0.02]}, index=GENES
)  # E is without features


@pytest.fixture
def effects() -> ad.AnnData:
    return make(["A", "B", "D", "A+B", "B+D"])


def make(labels: list[str]) -> ad.AnnData:
    lfc = np.arange(1.0, len(labels) + 1)[:, None] * np.ones(len(GENES))
    lfc[:, -1] *= -1  # whole numbers of which none is negative are refused as counts
    adata = ad.AnnData(
        obs=pd.DataFrame({"perturbation": labels}, index=labels), var=pd.DataFrame(index=GENES), layers={"lfc": lfc}
    )
    adata.varm["f"] = VECTORS.to_numpy(copy=True)
    adata.varm["f"][4] = np.nan
    return adata


def predicted(effects: ad.AnnData, asked: list[str], **options) -> list[float]:
    model = baselines.NearestPerturbation(**({"network_key": None, "gene_features_key": "f"} | options)).fit(effects)
    return model.predict(asked).layers["predicted_lfc"][:, 0].tolist()


def cosine(p: str, q: str) -> float:
    a, b = (VECTORS.loc[list(label.replace("+", ""))].sum().to_numpy() for label in (p, q))
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_the_direction_of_features_decides_and_not_their_length(effects):
    # C points between B and D, next to D; F points where A does, and is short; the longest vector is D's.
    assert (
        max("ABD", key=lambda gene: cosine("C", gene)) == "D" and max("ABD", key=lambda gene: cosine("F", gene)) == "A"
    )
    assert predicted(effects, ["C", "F"]) == [3, 1]


def test_combinations_are_compared_with_combinations_by_the_sums_of_their_genes(effects):
    for label in ("A+C", "C+F", "B+C", "A+D"):
        best = max(["A+B", "B+D"], key=lambda other: cosine(label, other))
        assert predicted(effects, [label]) == [{"A+B": 4, "B+D": 5}[best]]
    assert {predicted(effects, [label])[0] for label in ("A+D", "B+C", "C+F")} == {4, 5}


def test_a_training_perturbation_is_predicted_as_measured_and_ties_as_their_mean(effects):
    assert predicted(effects, ["B+A", "D"]) == [4, 3]
    effects.varm["f"][1] = [3.0, 0.0]  # B now points where A does
    assert predicted(effects, ["F"]) == [1.5]


def test_networks_and_tables_of_similarities_are_read_as_kernel_ridge_reads_them(effects):
    edges = np.zeros((6, 6))
    edges[2, 0] = edges[0, 2] = edges[3, 5] = edges[5, 3] = 1
    effects.varp["network"] = sparse.csr_matrix(edges)
    assert predicted(effects, ["C", "F"], network_key="network", gene_features_key=None) == [1, 3]
    table = pd.DataFrame(np.eye(6), index=GENES, columns=GENES)
    table.loc["C", "B"] = table.loc["B", "C"] = 0.9
    assert predicted(effects, ["C"], gene_features_key=None, similarities=table) == [2]
    # Added up: the network's 1 for F and D outweighs what the features say of F and A.
    assert predicted(effects, ["C"], network_key="network", similarities=[table, table]) == [2]


def test_a_perturbation_of_which_nothing_is_known_is_the_mean_of_its_kind_and_named(effects):
    with pytest.warns(UserWarning, match=r"3 perturbation\(s\) are similar to none of training: E, X, E\+X\."):
        assert predicted(effects, ["E", "X", "X+E"]) == [2, 2, 4.5]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predicted(effects, ["C+E"])


def test_without_combinations_in_training_all_training_perturbations_are_compared():
    singles = make(["A", "B", "D"])
    with pytest.warns(UserWarning, match=r"no combinations in training.*1 perturbation.*B\+C"):
        assert predicted(singles, ["C+B"]) == [2]
    with pytest.warns(UserWarning, match="no single perturbations in training"):
        assert predicted(make(["A+B", "B+D"]), ["C"]) == [2]


@given(st.permutations(range(5)))
@settings(max_examples=20)
def test_nothing_depends_on_the_order_of_perturbations(order):
    effects = make(["A", "B", "D", "A+B", "B+D"])
    asked = ["C", "F", "A+C", "C+F"]
    assert predicted(effects[order].copy(), asked) == predicted(effects, asked)


def test_bad_input_is_refused(effects):
    with pytest.raises(ValueError, match="NearestPerturbation needs to know which genes are similar"):
        baselines.NearestPerturbation(network_key=None)
    with pytest.raises(ValueError, match="restart must be a probability"):
        baselines.NearestPerturbation(restart=0)
    with pytest.raises(ValueError, match="effects.varp has no 'network'"):
        baselines.NearestPerturbation().fit(effects)
    table = pd.DataFrame(np.eye(2), index=["X", "Y"], columns=["X", "Y"])
    with pytest.raises(ValueError, match="Nothing is known about any of the 3 perturbed genes"):
        baselines.NearestPerturbation(network_key=None, similarities=table).fit(effects)
