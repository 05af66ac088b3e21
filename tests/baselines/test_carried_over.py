"""Effects of another screen, carried over."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scapp.baselines import CarriedOver

rng = np.random.default_rng(0)
THERE = rng.normal(size=(6, 5)).astype(np.float32)


def screen(labels: list[str], genes: list[str], lfc: np.ndarray) -> ad.AnnData:
    return ad.AnnData(
        obs=pd.DataFrame({"perturbation": labels}, index=labels), var=pd.DataFrame(index=genes), layers={"lfc": lfc}
    )


def other() -> ad.AnnData:
    return screen(["A", "B", "C", "D", "A+B", "E"], ["g1", "g2", "g3", "g4", "g5"], THERE)


def this() -> ad.AnnData:
    """Another order of genes, one that the other screen lacks, and effects of 0.6 of those there, with noise."""
    lfc = np.concatenate([0.6 * THERE[:3, [2, 1, 0, 3]], np.full((3, 1), 0.5)], axis=1)
    return screen(["A", "B", "C"], ["g3", "g2", "g1", "g4", "new"], lfc.astype(np.float32))


def test_the_scale_is_that_of_the_shared_perturbations_and_genes_are_aligned_by_name():
    with pytest.warns(UserWarning, match=r"did not measure 1 of the 5 genes: new\."):
        found = CarriedOver(other()).fit(this())
    assert found.scale == pytest.approx(0.6, rel=1e-5)
    predicted = found.predict(["B+A", "D"]).layers["predicted_lfc"]
    np.testing.assert_allclose(predicted[:, :4], 0.6 * THERE[[4, 3]][:, [2, 1, 0, 3]], rtol=1e-5)
    np.testing.assert_allclose(predicted[:, 4], 0.5)


def test_what_the_other_screen_lacks_is_the_mean_and_said():
    found = CarriedOver(other()).fit(this())  # warns of the gene, as above
    with pytest.warns(UserWarning, match=r"lacks 1 of these 2 perturbations: Z\.") as caught:
        predicted = found.predict(["Z", "A"])
    assert caught[0].filename == __file__
    np.testing.assert_allclose(predicted.layers["predicted_lfc"][0], this().layers["lfc"].mean(0), rtol=1e-5)


def test_screens_that_share_nothing_are_refused():
    foreign = other()
    foreign.var_names = [f"ENSG{i}" for i in range(5)]
    with pytest.raises(ValueError, match="share no measured gene.*harmonize_genes"):
        CarriedOver(foreign).fit(this())
    with pytest.raises(ValueError, match="share none of the 3 training perturbations"):
        CarriedOver(other()[["D", "E"]].copy()).fit(this())


def test_an_unrelated_screen_is_carried_over_with_a_small_scale():
    unrelated = other()
    unrelated.layers["lfc"] = np.random.default_rng(5).normal(size=THERE.shape).astype(np.float32)
    assert abs(CarriedOver(unrelated).fit(this()).scale) < 0.4
