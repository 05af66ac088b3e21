"""Dask arrays, on threads and on a cluster: the numbers of memory, few sums, and no more blocks at a time than are worked on."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Iterator
from threading import Lock

import anndata as ad
import dask
import dask.array as dask_array
import distributed
import numpy as np
import pandas as pd
import pytest
import zarr
from scipy import sparse

from scapp.expression import _dask as dask_sums
from scapp.expression._blocks import Accumulator, BlockTask
from scapp.expression._dask import DaskSum
from scapp.pp import pseudobulk


def screen(n_cells: int = 240, n_genes: int = 25, n_perturbations: int = 3) -> ad.AnnData:
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(1.0, 2.0, size=n_genes), size=(n_cells, n_genes)).astype(np.float32)
    counts[:, 0] += 1
    labels = np.array(["control", *(f"G{i}" for i in range(n_perturbations))])
    obs = pd.DataFrame(
        {"perturbation": labels[rng.integers(len(labels), size=n_cells)], "batch": rng.choice(["a", "b"], n_cells)},
        index=[f"cell{i}" for i in range(n_cells)],
    )
    return ad.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(n_genes)]))


def lazy(cells: ad.AnnData, chunks: tuple[int, int], each: Callable = sparse.csr_matrix) -> ad.AnnData:
    X = dask_array.from_array(cells.X.toarray(), chunks=chunks).map_blocks(each, dtype=np.float32)
    return ad.AnnData(X=X, obs=cells.obs, var=cells.var)


def assert_same_effects(found: ad.AnnData, expected: ad.AnnData) -> None:
    assert list(found.obs_names) == list(expected.obs_names)
    assert list(found.obs["n_cells"]) == list(expected.obs["n_cells"])
    for key in ("lfc", "lfc_se"):
        np.testing.assert_allclose(found.layers[key], expected.layers[key], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.X, expected.X, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.var["control_var"], expected.var["control_var"])


@pytest.fixture
def two_threads() -> Iterator[None]:
    with dask.config.set(scheduler="threads", num_workers=2):
        yield


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    options = {"processes": True, "n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as local, distributed.Client(local) as client:
        yield client


@pytest.fixture(params=["threads", "cluster"])
def scheduler(request: pytest.FixtureRequest) -> str:
    request.getfixturevalue("two_threads" if request.param == "threads" else "cluster")
    return request.param


@pytest.mark.parametrize("chunks", [(50, 25), (50, 10), (240, 10), (240, 25)])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("batch_key", [None, "batch"])
def test_chunks_of_any_shape_give_the_numbers_of_memory(chunks, kind, batch_key):
    cells = screen()
    expected = pseudobulk(cells, batch_key=batch_key)
    found = lazy(cells, chunks, kind)
    assert_same_effects(pseudobulk(found, batch_key=batch_key), expected)
    assert_same_effects(pseudobulk(found, batch_key=batch_key, chunk_size=110), expected)


def persisted(cells: ad.AnnData) -> ad.AnnData:
    found = lazy(cells, (20, 25))
    found.X = found.X.persist()
    return found


def whole_genes(cells: ad.AnnData) -> ad.AnnData:
    return lazy(cells, (240, 6), np.asarray)


def chunks_that_share_their_reads(cells: ad.AnnData) -> ad.AnnData:
    X = dask_array.from_array(cells.X.toarray(), chunks=(33, 7)).rechunk((20, 10))
    return ad.AnnData(X=X, obs=cells.obs, var=cells.var)


@pytest.mark.parametrize("made", [persisted, whole_genes, chunks_that_share_their_reads])
@pytest.mark.parametrize("batch_key", [None, "batch"])
def test_arrays_of_any_making_give_the_numbers_of_memory(made, batch_key, scheduler):
    cells = screen()
    assert_same_effects(pseudobulk(made(cells), batch_key=batch_key), pseudobulk(cells, batch_key=batch_key))


def test_workers_of_a_cluster_read_a_zarr_folder(tmp_path, cluster):
    cells = screen()
    path = tmp_path / "cells.zarr"
    cells.write_zarr(path)
    group = zarr.open_group(str(path), mode="r")
    X = ad.experimental.read_elem_lazy(group["X"], chunks=(20, cells.n_vars))
    assert X.numblocks[0] == 12
    for batch_key in (None, "batch"):
        found = pseudobulk(ad.AnnData(X=X, obs=cells.obs, var=cells.var), batch_key=batch_key)
        assert_same_effects(found, pseudobulk(cells, batch_key=batch_key))
    worked = cluster.run(lambda dask_worker: len(dask_worker.state.log) > 0)
    assert len(worked) == 2 and all(worked.values())


def test_files_memory_and_dask_arrays_may_stand_in_one_list(tmp_path, scheduler):
    cells = screen()
    cells[:60].copy().write_h5ad(tmp_path / "first.h5ad")
    parts = [tmp_path / "first.h5ad", lazy(cells[60:120], (20, 25)), cells[120:150].copy(), lazy(cells[150:], (7, 25))]
    assert_same_effects(pseudobulk(parts), pseudobulk(cells))


def test_a_wrong_guess_costs_a_second_pass_and_no_more(scheduler):
    import scanpy as sc

    cells = screen()
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    logs = cells.X.toarray()
    logs[:20] = np.rint(logs[:20])  # the first block looks like counts
    cells.X = sparse.csr_matrix(logs)
    found = pseudobulk(lazy(cells, (20, 25)))
    assert found.uns["scapp"]["pseudobulk"]["input"] == "log-normalised"
    assert_same_effects(found, pseudobulk(cells))


def test_blocks_whose_cells_are_all_left_out_add_nothing(scheduler):
    cells = screen()
    labels = cells.obs["perturbation"].to_numpy().copy()
    labels[40:80] = [f"single{i}" for i in range(40)]  # two blocks of perturbations with one cell each
    cells.obs["perturbation"] = labels
    with pytest.warns(UserWarning, match="are left out"):
        expected = pseudobulk(cells, batch_key="batch", on_few_cells="drop")
    with pytest.warns(UserWarning, match="are left out"):
        found = pseudobulk(lazy(cells, (20, 25)), batch_key="batch", on_few_cells="drop")
    assert_same_effects(found, expected)


def test_two_threads_carry_two_sums_and_no_block_is_read_ahead(monkeypatch, two_threads):
    cells, lock = screen(), Lock()
    reads: list[int] = []
    adds: list[int] = []
    ahead: list[int] = []
    joins: list[None] = []
    block, join = BlockTask.block, Accumulator.join

    def read(values: np.ndarray) -> sparse.csr_matrix:
        with lock:
            reads.append(len(values))
            ahead.append(len(reads) - len(adds))
        return sparse.csr_matrix(values)

    def slowly(job: BlockTask, values: sparse.csr_matrix) -> object:
        time.sleep(0.005)
        with lock:
            adds.append(values.shape[0])
        return block(job, values)

    monkeypatch.setattr(BlockTask, "block", slowly)
    monkeypatch.setattr(Accumulator, "join", lambda *both: joins.append(join(*both)))
    X = dask_array.from_array(cells.X.toarray(), chunks=(5, 25)).map_blocks(
        read, dtype=np.float32, meta=np.zeros((0, 0))
    )
    pseudobulk(ad.AnnData(X=X, obs=cells.obs, var=cells.var))
    assert len(adds) == 48 + 1  # and the first block to see what the matrix holds
    assert max(ahead) <= 2
    assert len(joins) == 1


def test_large_sums_are_carried_by_fewer_threads(monkeypatch, two_threads):
    cells, join = screen(), Accumulator.join
    joins: list[None] = []
    expected = pseudobulk(cells)
    monkeypatch.setattr(Accumulator, "join", lambda *both: joins.append(join(*both)))
    monkeypatch.setattr(dask_sums, "BYTES_OF_SUMS", 6000)  # those of one thread are 1,600, and what was seen 2,120
    assert_same_effects(pseudobulk(lazy(cells, (20, 25))), expected)
    assert not joins


def test_progress_bars_see_each_block_and_one_calculation(two_threads):
    from dask.callbacks import Callback

    begun: list[int] = []
    with Callback(start_state=lambda graph, state: begun.append(len(graph))):
        pseudobulk(lazy(screen(), (20, 25)))
    first_block, all_blocks = begun
    assert first_block <= 2 and all_blocks >= 12


def test_one_total_leaves_a_cluster_however_many_blocks_there_are(cluster):
    cells = screen(n_cells=600, n_genes=1500, n_perturbations=60)
    total = 2 * 8 * 61 * 1500  # bytes of the sums of x and of its square
    found, left = [], []
    for chunks in ((60, 1500), (12, 1500)):
        before = sum(cluster.run(lambda dask_worker: dask_worker.transfer_outgoing_bytes_total).values())
        found.append(pseudobulk(lazy(cells, chunks)))
        left.append(sum(cluster.run(lambda dask_worker: dask_worker.transfer_outgoing_bytes_total).values()) - before)
    # The sums of one worker go to the other, those of both to the client.
    assert all(total < n < 2.5 * total for n in left)
    for effects in found:
        assert_same_effects(effects, pseudobulk(cells))


@pytest.mark.parametrize("how", ["error", "worker dies"])
def test_what_is_run_again_adds_no_cell_twice(tmp_path, cluster, how):
    cells, flag = screen(), tmp_path / "failed"
    counts = cells.X.toarray()
    counts[140, 1] = 99
    cells.X = sparse.csr_matrix(counts)
    expected = pseudobulk(cells)

    def fails_once(values: np.ndarray) -> sparse.csr_matrix:
        if values[0, 1] == 99 and not flag.exists():
            flag.touch()
            if how == "error":
                raise OSError("the network is busy")
            os._exit(1)
        return sparse.csr_matrix(values)

    X = dask_array.from_array(counts, chunks=(20, 25)).map_blocks(fails_once, dtype=np.float32, meta=np.zeros((0, 0)))
    with dask.annotate(retries=1):
        found = pseudobulk(ad.AnnData(X=X, obs=cells.obs, var=cells.var))
    assert flag.exists()
    assert_same_effects(found, expected)


def test_sums_are_taken_once_and_what_is_sent_is_a_copy():
    carried = DaskSum(Accumulator(None, np.zeros(4)))
    sent = pickle.loads(pickle.dumps(carried))
    running = carried.take()
    running.sums += 1
    np.testing.assert_array_equal(sent.take().sums, np.zeros(4))
    for taken in (carried, pickle.loads(pickle.dumps(carried))):
        with pytest.raises(RuntimeError, match="run again"):
            taken.take()


def test_a_block_that_failed_halfway_is_not_added_again(monkeypatch):
    def fails(running: Accumulator, job: BlockTask, values: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(Accumulator, "add", fails)
    carried = DaskSum(Accumulator(None, np.zeros(4)))
    with pytest.raises(MemoryError, match="no room"):
        dask_sums._add(carried, None, None)
    with pytest.raises(RuntimeError, match="run again"):
        dask_sums._add(carried, None, None)
