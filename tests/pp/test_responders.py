"""Effects of the cells that respond, as Mixscape tells them."""

from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scapp.pp import pseudobulk

SHARES = {"G1": 0.25, "G2": 0.5, "G3+G4": 0.75}
N_CELLS, N_GENES = 40, 20


def screen(form: str = "class", seed: int = 0) -> tuple[ad.AnnData, np.ndarray]:
    """Cells of which a known share responds, the others being like controls, and which respond."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(["control", *SHARES], N_CELLS)
    rate = np.tile(rng.gamma(2.0, 10.0, size=N_GENES) + 5, (len(labels), 1))
    responds = np.zeros(len(labels), dtype=bool)
    for k, (label, share) in enumerate(SHARES.items()):
        cells = np.flatnonzero(labels == label)[: int(share * N_CELLS)]
        responds[cells] = True
        rate[cells, k] *= 6
    shuffled = rng.permutation(len(labels))
    labels, responds = labels[shuffled], responds[shuffled]
    end = np.where(responds, "KO", "NP")
    column = {
        "global": pd.Categorical(np.where(labels == "control", "NT", end)),
        "class": [name if name == "control" else f"{name} {e}" for name, e in zip(labels, end, strict=True)],
        "bool": responds,
        "categorical of bool": pd.Categorical(responds),
    }[form]
    genes = [f"G{i + 1}" for i in range(N_GENES)]
    obs = pd.DataFrame({"perturbation": labels, "mixscape": column, "batch": np.array(["a", "b"])[shuffled % 2]})
    obs.index = [f"cell{i}" for i in range(len(labels))]
    counts = rng.poisson(rate[shuffled]).astype(np.float32)
    return ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=genes)), responds


@pytest.mark.parametrize("form", ["global", "class", "bool", "categorical of bool"])
@pytest.mark.parametrize("batch_key", [None, "batch"])
def test_effects_are_those_of_the_responding_cells(form, batch_key):
    adata, responds = screen(form)
    before = adata.copy()
    effects = pseudobulk(adata, responders_key="mixscape", batch_key=batch_key)
    only = pseudobulk(adata[responds | (adata.obs["perturbation"] == "control")].copy(), batch_key=batch_key)
    for layer in ("lfc", "lfc_se"):
        np.testing.assert_allclose(effects.layers[layer], only.layers[layer], rtol=1e-6)
    assert effects.obs["share_responding"].to_dict() == SHARES
    assert effects.obs["n_cells"].to_dict() == {name: int(share * N_CELLS) for name, share in SHARES.items()}
    assert effects.uns["n_control_cells"] == N_CELLS
    assert effects.uns["scapp"]["pseudobulk"]["responders_key"] == "mixscape"
    pd.testing.assert_frame_equal(adata.obs, before.obs)


def test_planted_effects_are_recovered_where_all_cells_dilute_them():
    adata, _ = screen()
    expected = np.log(6)
    of_all, of_responders = pseudobulk(adata), pseudobulk(adata, responders_key="mixscape")
    for k, label in enumerate(SHARES):
        # The changed gene takes counts of the others: compared with an unchanged one, as counts are a part of a total.
        all_cells, responders = (
            e[label].layers["lfc"][0, k] - np.median(e[label].layers["lfc"]) for e in (of_all, of_responders)
        )
        assert abs(responders - expected) < 0.2
        assert all_cells < responders - 0.25


def test_share_is_not_there_without_the_column():
    assert "share_responding" not in pseudobulk(screen()[0]).obs


def test_perturbation_without_responding_cells_has_too_few_cells():
    adata, responds = screen("bool")
    adata.obs["mixscape"] = responds & (adata.obs["perturbation"] != "G2").to_numpy()
    with pytest.raises(ValueError, match=r"fewer than min_cells=2 responding cells: G2 \(0\).*on_few_cells='drop'"):
        pseudobulk(adata, responders_key="mixscape")
    with pytest.warns(UserWarning, match=r"min_cells=2 responding cells are left out: G2 \(0\)"):
        effects = pseudobulk(adata, responders_key="mixscape", on_few_cells="drop")
    assert list(effects.obs_names) == ["G1", "G3+G4"]
    assert effects.uns["scapp"]["pseudobulk"]["dropped"].to_numpy().tolist() == [["G2", 0]]
    adata.obs["mixscape"] = False
    with pytest.raises(ValueError, match="No perturbation has at least min_cells=2 responding cells"):
        pseudobulk(adata, responders_key="mixscape", on_few_cells="drop")


def test_cells_left_out_are_counted_once(caplog):
    with caplog.at_level(logging.INFO, logger="scapp"):
        pseudobulk(screen()[0], responders_key="mixscape")
    said = [record.getMessage() for record in caplog.records if "do not respond" in record.getMessage()]
    assert len(said) == 1
    assert "60 of 120 perturbed cells" in said[0] and "G1 (25 %)" in said[0]


def test_shares_by_context():
    first, second = (screen(seed=seed)[0] for seed in (0, 1))
    second = second[second.obs["mixscape"] != "G1 NP"].copy()
    cells = ad.concat({"K562": first, "RPE1": second}, label="line", index_unique="-")
    effects = pseudobulk(cells, context_key="line", responders_key="mixscape")
    assert effects.obs["share_responding"]["G1 (K562)"] == 0.25
    assert effects.obs["share_responding"]["G1 (RPE1)"] == 1


def test_control_cells_are_not_asked():
    adata, _ = screen("bool")
    adata.obs["mixscape"] = adata.obs["mixscape"].astype(object).where(adata.obs["perturbation"] != "control")
    expected = pseudobulk(screen("bool")[0], responders_key="mixscape")
    np.testing.assert_array_equal(pseudobulk(adata, responders_key="mixscape").layers["lfc"], expected.layers["lfc"])


@pytest.mark.parametrize(
    ("value", "found"),
    [("maybe", "'maybe'"), ("NT", "'NT'"), ("", "''"), (1, "1"), (0.3, "0.3"), ("G1 KO2", "'G1 KO2'")],
)
def test_unknown_value_is_named_with_the_mend(value, found):
    adata, _ = screen()
    column = adata.obs["mixscape"].astype(object)
    column.iloc[int(np.flatnonzero(adata.obs["perturbation"] == "G1")[0])] = value
    adata.obs["mixscape"] = column
    with pytest.raises(ValueError, match=f"perturbed cells: {found}.*Expected are classes of Mixscape.*adata.obs"):
        pseudobulk(adata, responders_key="mixscape")


def test_missing_value_and_column_are_errors():
    adata, _ = screen()
    with pytest.raises(ValueError, match=r"no column 'mixscape_class'.*responders_key"):
        pseudobulk(adata, responders_key="mixscape_class")
    with pytest.raises(TypeError, match="responders_key"):
        pseudobulk(adata, responders_key=["mixscape"])
    column = adata.obs["mixscape"].astype(object)
    column[adata.obs["perturbation"] == "G1"] = None
    adata.obs["mixscape"] = column
    with pytest.raises(ValueError, match="40 of the 120 perturbed cells have no value"):
        pseudobulk(adata, responders_key="mixscape")


def classes(adata: ad.AnnData, name) -> pd.Series:
    """Classes of the cells after names that a function makes of their labels."""
    ends = adata.obs["mixscape"].astype(str).str.rsplit(n=1).str[-1]
    named = [
        label if label == "control" else f"{name(label)} {end}"
        for label, end in zip(adata.obs["perturbation"], ends, strict=True)
    ]
    return pd.Series(named, index=adata.obs_names)


def test_classes_of_other_cells_are_refused_and_not_read_by_position():
    adata, _ = screen("class")
    turned = np.roll(adata.obs["mixscape"].to_numpy(), 7)
    controls = (adata.obs["perturbation"] == "control").to_numpy()
    adata.obs["mixscape"] = np.where(controls | (turned == "control"), adata.obs["mixscape"], turned)
    with pytest.raises(
        ValueError, match=r"of the 120 perturbed cells have another gene.*of cells labeled.*\n.*reindex"
    ):
        pseudobulk(adata, responders_key="mixscape")
    adata, _ = screen("class")
    one = int(np.flatnonzero(adata.obs["perturbation"] == "G1")[0])
    column = adata.obs["mixscape"].astype(object)
    column.iloc[one] = "G2 KO"
    adata.obs["mixscape"] = column
    with pytest.raises(ValueError, match=r"^1 of the 120 perturbed cells.*'G2 KO' of cells labeled G1\."):
        pseudobulk(adata, responders_key="mixscape")


@pytest.mark.parametrize(
    "name",
    [
        lambda label: label.replace("+", "_"),
        lambda label: "+".join(reversed(label.split("+"))),
        lambda label: f"{label}_1",
        lambda label: f"{label}g2",
        lambda label: f"sg{label}",
        lambda label: label.split("+")[0],
        lambda label: f"{label}+ctrl",
        lambda label: f"ENSG0000{label[-1]}",
        lambda label: f" {label} ",
    ],
    ids=[
        "joined otherwise",
        "reversed",
        "guide",
        "guide without a join",
        "sg",
        "first gene",
        "with control",
        "id",
        "spaces",
    ],
)
def test_guides_combinations_and_other_names_before_the_class_are_no_contradiction(name):
    adata, _ = screen("class")
    expected = pseudobulk(adata, responders_key="mixscape")
    adata.obs["mixscape"] = classes(adata, name)
    found = pseudobulk(adata, responders_key="mixscape")
    np.testing.assert_array_equal(found.layers["lfc"], expected.layers["lfc"])


def test_labels_that_are_guides_may_have_classes_of_their_genes():
    adata, _ = screen("class")
    adata.obs["mixscape"] = classes(adata, lambda label: label)
    expected = pseudobulk(adata, responders_key="mixscape")
    guides = adata.obs["perturbation"].where(adata.obs["perturbation"] != "G1", "G1-2")
    adata.obs["perturbation"] = guides
    found = pseudobulk(adata, responders_key="mixscape")
    np.testing.assert_array_equal(found["G1-2"].layers["lfc"], expected["G1"].layers["lfc"])
