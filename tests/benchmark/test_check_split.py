"""What would make a score say too much is found where it was planted, and nowhere else."""

from __future__ import annotations

import dataclasses
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scapp
from scapp import benchmark
from scapp.benchmark import Split, check_split

SPLIT = Split(0, train=("A", "B", "A+C"), test=("D", "E"))


def status(table: pd.DataFrame) -> dict[str, str]:
    """The worst status of each check."""
    order = ["ok", "note", "warning"]
    return {check: max(rows["status"], key=order.index) for check, rows in table.groupby("check")}


def quietly(data, **options) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return check_split(data, **options)


def cells(sides: dict[str, list[tuple[str, str, str]]], n: int = 4) -> pd.DataFrame:
    """A table of obs: for each side (perturbation, guide, batch), n cells each."""
    rows = [(side, *row) for side, listed in sides.items() for row in listed for _ in range(n)]
    return pd.DataFrame(rows, columns=["split", "perturbation", "guide", "batch"])


CLEAN = {
    "train": [("A", "A_1", "b1"), ("A", "A_1", "b2"), ("B", "B_1", "b1"), ("control", "nt", "b1"), ("control", "nt", "b2")],
    "test": [("C", "C_1", "b1"), ("C", "C_2", "b2"), ("control", "nt", "b1"), ("control", "nt", "b2")],
}  # fmt: skip


def test_a_clean_split_of_labels_has_nothing_to_warn_of():
    table = quietly(SPLIT)
    assert list(table.columns) == ["split", "check", "status", "n", "of", "examples", "meaning"]
    assert status(table) == {"perturbation": "ok", "genes": "ok"}


@pytest.mark.parametrize("label", ["A+C", "C+A", "ctrl+A"])
def test_a_perturbation_on_both_sides_is_found_in_any_spelling(label):
    with pytest.warns(UserWarning, match="trained on as well"):
        table = check_split(dataclasses.replace(SPLIT, test=(label, "D")))
    row = table[table["check"] == "perturbation"].iloc[0]
    assert (row["status"], row["n"], row["of"]) == ("warning", 1, 2)


def test_the_pair_partner_of_an_unseen_gene_is_found_in_training():
    with pytest.warns(UserWarning, match=r"1 of 2 held-out .* \(C in A\+C\)"):
        table = check_split(dataclasses.replace(SPLIT, test=("C", "D")))
    assert status(table)["genes"] == "warning"


def test_genes_of_held_out_combinations_may_be_measured_unless_they_are_claimed_to_be_unseen():
    split = dataclasses.replace(SPLIT, test=("A+B", "A+D"))
    table = quietly(split)
    note = table[table["check"] == "genes"].iloc[0]
    assert (note["status"], note["n"], note["of"]) == ("note", 1, 2)
    with pytest.warns(UserWarning, match="2 of 2 held-out"):
        check_split(split, claim="unseen")


def test_the_same_perturbations_are_right_where_other_cells_of_them_are_predicted():
    assert status(quietly(Split(0, ("A", "B"), ("A", "B")), claim="seen")) == {"perturbation": "ok"}


def test_labels_that_are_guides_of_one_gene_are_found_and_symbols_with_numbers_are_not():
    with pytest.warns(UserWarning, match="another guide"):
        table = check_split(Split(0, ("KLF1_1", "NKX2-1", "HNF1"), ("KLF1_sg2", "NKX2-5", "HNF4")))
    assert table.loc[table["check"] == "guides", "examples"].tolist() == ["KLF1_sg2"]


def test_a_clean_table_of_cells_has_nothing_to_warn_of():
    table = quietly(cells(CLEAN), guide_key="guide", batch_key="batch")
    assert status(table) == dict.fromkeys(["perturbation", "genes", "guides", "control cells", "batch"], "ok")


def test_a_guide_with_cells_on_both_sides_is_found():
    sides = {"train": [*CLEAN["train"], ("C", "C_1", "b1")], "test": CLEAN["test"]}
    with pytest.warns(UserWarning) as found:
        table = check_split(cells(sides), guide_key="guide")
    assert status(table)["guides"] == status(table)["perturbation"] == "warning"
    assert any("1 of 2 guides" in str(each.message) for each in found)


def test_controls_on_one_side_only_are_noted_and_warned_of_where_cells_are_split():
    sides = {side: [row for row in rows if side == "train" or row[0] != "control"] for side, rows in CLEAN.items()}
    assert status(quietly(cells(sides)))["control cells"] == "note"
    sides["test"] = [("A", "A_1", "b1")]
    with pytest.warns(UserWarning, match="All 8 control cells are on the training side"):
        check_split(cells(sides), claim="seen")


def test_perturbations_that_are_their_batch_are_found():
    sides = {"train": CLEAN["train"], "test": [("C", "C_1", "b3"), *CLEAN["test"][2:]]}
    with pytest.warns(
        UserWarning, match=r"1 of 3 perturbations have cells only in batches without control cells \(C\)"
    ):
        check_split(cells(sides), batch_key="batch")


def test_batches_that_tell_the_sides_apart_are_found():
    sides = {
        "train": [("A", "A_1", "b1"), ("control", "nt", "b1"), ("B", "B_1", "b2"), ("control", "nt", "b2")],
        "test": [("C", "C_1", "b3"), ("control", "nt", "b3"), ("D", "D_1", "b3")],
    }
    with pytest.warns(UserWarning, match="All 3 batches are on one side only"):
        check_split(cells(sides), batch_key="batch")


def test_a_batch_for_each_perturbation_with_controls_is_noted_with_the_mend():
    sides = {
        "train": [("A", "A_1", "b1"), ("control", "nt", "b1"), ("B", "B_1", "b2"), ("control", "nt", "b2")],
        "test": [("C", "C_1", "b3"), ("control", "nt", "b3")],
    }
    with pytest.warns(UserWarning, match="one side only"):
        table = check_split(cells(sides), batch_key="batch")
    assert table.loc[table["status"] == "note", "meaning"].str.contains("batch_key=").any()


def test_a_copied_effect_under_another_name_is_found():
    rng = np.random.default_rng(0)
    lfc = rng.normal(size=(5, 40)).astype(np.float32)
    lfc[4] = 2 * lfc[0] + 1
    obs = pd.DataFrame({"perturbation": list("ABCDE"), "split": ["train"] * 3 + ["test"] * 2}, index=list("ABCDE"))
    effects = ad.AnnData(lfc, obs=obs, layers={"lfc": lfc.copy()})
    with pytest.warns(UserWarning, match=r"1 of 2 held-out effects are training effects under another name \(E\)"):
        table = check_split(effects)
    assert status(table) == {"perturbation": "ok", "genes": "ok", "same effects": "warning"}
    assert "perturbation" not in effects.uns and effects.n_obs == 5


@pytest.mark.parametrize("name", ["doubles", "unseen", "seen"])
def test_the_tasks_of_scapp_pass(name, request):
    table = quietly(request.getfixturevalue(name))
    assert set(table["status"]) <= {"ok", "note"}
    assert table["split"].nunique() == 2


def test_halves_that_share_their_controls_are_found(seen):
    shared = {seed: (first, first) for seed, (first, _) in seen.halves.items()}
    with pytest.warns(UserWarning, match=r"Both halves .*\n.*seen_singles"):
        check_split(dataclasses.replace(seen, halves=shared))


def test_few_controls_are_warned_of_by_how_much_of_the_common_effect_is_their_error(simulated):
    cells, _ = simulated
    control = np.flatnonzero(cells.obs["perturbation"] == "control")
    few = np.setdiff1d(np.arange(cells.n_obs), control[6:])
    task = benchmark.unseen_singles(cells[few].copy(), n_splits=1)
    with pytest.warns(UserWarning, match="of what training effects have in common"):
        check_split(task)


def test_a_run_warns_before_the_first_fit(unseen, tmp_path):
    first = unseen.splits[0]
    leaky = dataclasses.replace(first, train=(*first.train, f"{first.test[0]}+{first.train[0]}"))
    effects = unseen.effects
    extra = ad.AnnData(effects.X[:1] * 2, obs=effects.obs[:1].set_index(pd.Index([leaky.train[-1]])), var=effects.var)
    extra.layers["lfc"] = extra.X.copy()
    extra.obs["perturbation"] = leaky.train[-1]
    task = dataclasses.replace(
        unseen, effects=ad.concat([effects, extra], merge="same"), splits=(leaky,), halves=None, sources=None
    )
    with pytest.warns(UserWarning, match="are not unseen"):
        assert not benchmark.run(task, ["mean"], folder=tmp_path, progress_bar=False)


def test_what_cannot_be_checked_is_refused_with_the_mend():
    table = cells(CLEAN)
    with pytest.raises(ValueError, match="split_key="):
        check_split(table.drop(columns="split"))
    with pytest.raises(ValueError, match=r"'train', 'test'.*\n?.*train=… and test=…"):
        check_split(table, train="fit")
    with pytest.raises(ValueError, match=r"notna\(\)"):
        check_split(table.assign(perturbation=table["perturbation"].where(table.index > 0)))
    with pytest.raises(ValueError, match="claim must be 'combinations', 'unseen' or 'seen', found 'new'"):
        check_split(table, claim="new")
    with pytest.raises(ValueError, match="batch_key=…"):
        check_split(table, batch_key="plate")
    with pytest.raises(ValueError, match="holds control cells and no perturbation"):
        check_split(table.assign(perturbation=np.where(table["split"] == "test", "control", table["perturbation"])))
    with pytest.raises(TypeError, match=r"Split\(0"):
        check_split(["A", "B"])
    with pytest.raises(ValueError, match="holds labels"):
        check_split(Split(0, ("A",), ()))


def test_papalexi_by_guide_and_replicate_is_judged_as_it_is(shared_data):
    cells = ad.read_h5ad(shared_data / "papalexi_2021_counts.h5ad")
    table = cells.obs.assign(split=np.where(cells.obs["grna_target"].isin(["STAT1", "JAK2"]), "test", "train"))
    options = {
        "perturbation_key": "grna_target",
        "control": "non-targeting",
        "guide_key": "grna_id",
        "batch_key": "bio_rep",
    }
    found = status(quietly(table, **options))
    assert found == {"perturbation": "ok", "genes": "ok", "guides": "ok", "control cells": "note", "batch": "ok"}
    by_guide = table.assign(split=np.where(table["grna_id"].astype(str).str.endswith("g1"), "test", "train"))
    with pytest.warns(UserWarning, match="trained on as well"):
        assert status(check_split(by_guide, **options))["perturbation"] == "warning"


def test_every_measured_task_passes(shared_data):
    for task in benchmark.measured(shared_data, ["norman_doubles", "k562_singles", "norman_two_unseen"]):
        assert set(quietly(task)["status"]) <= {"ok", "note"}
    assert scapp.benchmark.check_split is check_split
