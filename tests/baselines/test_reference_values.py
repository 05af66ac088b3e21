"""The values that ../shared/data/README.md gives for the two measured tasks, on the real files."""

from __future__ import annotations

import numpy as np
import pytest

from scapp import baselines, metrics


def score(baseline, split, train) -> float:
    predicted = baseline.fit(train).predict(split.test.obs_names)
    genes = split.scored if predicted.n_vars == split.test.n_vars else None
    observed = split.test.layers["lfc"][:, split.scored]
    predicted = predicted.layers["predicted_lfc"]
    return float(np.mean(metrics.l2(predicted if genes is None else predicted[:, genes], observed)))


@pytest.fixture(scope="module")
def doubles(tasks, shared_data):
    return tasks.doubles_task(shared_data)


@pytest.fixture(scope="module")
def singles(tasks, shared_data):
    return tasks.singles_task(shared_data)


@pytest.mark.parametrize(("baseline", "value"), [(baselines.NoChange, 17.47), (baselines.Additive, 12.94)])
def test_doubles(doubles, baseline, value):
    scores = [score(baseline(), split, split.train) for split in doubles]
    assert np.mean(scores) == pytest.approx(value, abs=0.005)


def test_doubles_shrunk_by_one_scalar(doubles):
    # The published scalar is fitted to the scored genes; fitted to all genes it is a little worse there.
    scores = [score(baselines.ShrunkAdditive(), split, split.train[:, split.scored].copy()) for split in doubles]
    assert np.mean(scores) == pytest.approx(11.48, abs=0.005)
    on_all_genes = [score(baselines.ShrunkAdditive(), split, split.train) for split in doubles]
    assert np.mean(on_all_genes) == pytest.approx(11.495, abs=0.005)
    additive = np.mean([score(baselines.Additive(), split, split.train) for split in doubles])
    assert np.mean(scores) / additive == pytest.approx(0.887, abs=0.0005)


@pytest.mark.parametrize(("baseline", "value"), [(baselines.NoChange, 10.71), (baselines.Mean, 10.37)])
def test_singles(singles, baseline, value):
    scores = [score(baseline(), split, split.train) for split in singles]
    assert np.mean(scores) == pytest.approx(value, abs=0.005)


@pytest.mark.filterwarnings("ignore:.*perturbed gene.s. were not measured:UserWarning")
def test_singles_by_the_linear_model(singles):
    scores = [score(baselines.LinearModel(), split, split.train) for split in singles]
    assert np.mean(scores) == pytest.approx(10.38, abs=0.005)
