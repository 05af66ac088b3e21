"""Screens that do not fit: zarr, lazy ones, several files, and files that are broken."""

from __future__ import annotations

import logging
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from scipy import sparse

from scapp.expression._blocks import BlockTask
from scapp.pp import pseudobulk

STORES = {"dense": np.asarray, "csr": sparse.csr_matrix, "csc": sparse.csc_matrix}


def screen(n_cells: int = 240, n_genes: int = 25) -> ad.AnnData:
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(1.0, 2.0, size=n_genes), size=(n_cells, n_genes)).astype(np.float32)
    counts[:, 0] += 1
    genes = [f"G{i}" for i in range(n_genes)]
    labels = np.array(["control", "G1", "G2", "G3+G4"])[rng.integers(4, size=n_cells)]
    obs = pd.DataFrame(
        {"perturbation": labels, "batch": pd.Categorical(np.array(["a", "b"])[rng.integers(2, size=n_cells)])},
        index=[f"cell{i}" for i in range(n_cells)],
    )
    adata = ad.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=genes))
    adata.varp["network"] = sparse.random(n_genes, n_genes, 0.2, format="csr", dtype=np.float32, random_state=0)
    return adata


def assert_same_effects(found: ad.AnnData, expected: ad.AnnData) -> None:
    assert list(found.obs_names) == list(expected.obs_names)
    assert list(found.obs["n_cells"]) == list(expected.obs["n_cells"])
    assert list(found.var_names) == list(expected.var_names)
    for key in ("lfc", "lfc_se"):
        np.testing.assert_allclose(found.layers[key], expected.layers[key], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.X, expected.X, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.var["control_var"], expected.var["control_var"])


@pytest.mark.parametrize("batch_key", [None, "batch"])
@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
@pytest.mark.parametrize("store", STORES)
def test_files_by_path_give_the_numbers_of_memory(tmp_path, store, suffix, batch_key):
    cells = screen()
    expected = pseudobulk(cells, batch_key=batch_key)
    cells.X = STORES[store](cells.X.toarray())
    path = tmp_path / f"cells{suffix}"
    getattr(cells, f"write_{suffix[1:]}")(path)
    found = pseudobulk(path, batch_key=batch_key, chunk_size=50)
    assert_same_effects(found, expected)
    np.testing.assert_array_equal(found.varp["network"].toarray(), cells.varp["network"].toarray())
    assert found.obs["perturbation"].tolist() == expected.obs["perturbation"].tolist()


@pytest.mark.parametrize("store", ["dense", "csr"])
def test_a_zarr_backed_anndata_gives_the_numbers_of_memory(tmp_path, store):
    cells = screen()
    expected = pseudobulk(cells)
    cells.X = STORES[store](cells.X.toarray())
    cells.write_zarr(tmp_path / "cells.zarr")
    group = zarr.open_group(str(tmp_path / "cells.zarr"), mode="r")
    matrix = group["X"] if store == "dense" else ad.io.sparse_dataset(group["X"])
    assert_same_effects(pseudobulk(ad.AnnData(X=matrix, obs=cells.obs, var=cells.var), chunk_size=37), expected)


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
@pytest.mark.parametrize("store", STORES)
def test_a_screen_that_was_read_lazily_gives_the_numbers_of_memory(tmp_path, store, suffix):
    cells = screen()
    expected = pseudobulk(cells)
    cells.X = STORES[store](cells.X.toarray())
    path = tmp_path / f"cells{suffix}"
    getattr(cells, f"write_{suffix[1:]}")(path)
    lazy = ad.experimental.read_lazy(path)
    found = pseudobulk(lazy)
    assert_same_effects(found, expected)
    np.testing.assert_array_equal(found.varp["network"].toarray(), cells.varp["network"].toarray())


def pieces(tmp_path: Path) -> tuple[ad.AnnData, list[Path]]:
    cells = screen()
    paths = [tmp_path / "one.h5ad", tmp_path / "two.zarr", tmp_path / "three.h5ad"]
    first, second, third = cells[:90].copy(), cells[90:130].copy(), cells[130:].copy()
    first.write_h5ad(paths[0])
    second.write_zarr(paths[1])
    third.X = third.X.toarray()
    third.write_h5ad(paths[2])
    return cells, paths


@pytest.mark.parametrize("batch_key", [None, "batch"])
def test_several_files_are_one_screen(tmp_path, batch_key):
    cells, paths = pieces(tmp_path)
    assert_same_effects(pseudobulk(paths, batch_key=batch_key, chunk_size=33), pseudobulk(cells, batch_key=batch_key))


def test_genes_in_another_order_are_aligned_by_name_and_this_is_said(tmp_path, caplog):
    cells, paths = pieces(tmp_path)
    ad.read_h5ad(paths[2])[:, ::-1].copy().write_h5ad(paths[2])
    with caplog.at_level(logging.INFO, logger="scapp"):
        found = pseudobulk(paths)
    assert "three.h5ad" in caplog.text and "aligned by name" in caplog.text
    assert_same_effects(found, pseudobulk(cells))


def test_files_and_anndata_may_stand_in_one_list(tmp_path):
    cells, paths = pieces(tmp_path)
    assert_same_effects(pseudobulk([paths[0], cells[90:].copy()]), pseudobulk(cells))


def test_other_genes_in_a_file_are_an_error_that_names_them(tmp_path):
    _, paths = pieces(tmp_path)
    other = ad.read_h5ad(paths[2])
    other.var_names = [*other.var_names[:-1], "g24"]
    other.write_h5ad(paths[2])
    with pytest.raises(ValueError, match=r"same genes.*three.h5ad' \(G24\).*g24"):
        pseudobulk(paths)


def test_cells_in_two_files_are_an_error_that_names_them(tmp_path):
    cells, paths = pieces(tmp_path)
    cells[85:130].copy().write_zarr(tmp_path / "again.zarr")
    with pytest.raises(ValueError, match=r"5 cells are in .*one.h5ad.*again.zarr.*cell85"):
        pseudobulk([paths[0], tmp_path / "again.zarr", paths[2]])


def test_a_truncated_file_is_an_error_that_names_it(tmp_path):
    _, paths = pieces(tmp_path)
    content = paths[2].read_bytes()
    for size in (0, 100, len(content) // 2):
        paths[2].write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"three.h5ad' cannot be read .*truncated"):
            pseudobulk(paths)


def test_a_file_damaged_inside_is_an_error_that_says_where(tmp_path):
    cells = screen()
    path = tmp_path / "cells.h5ad"
    cells.write_h5ad(path, compression="gzip")
    with h5py.File(path) as file:
        chunk = file["X/data"].id.get_chunk_info(0)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(bytes(chunk.size))
    with pytest.raises(ValueError, match=r"adata.X of .*cells.h5ad.* cannot be read from cell 0 on"):
        pseudobulk(path)


@pytest.mark.parametrize("made", ["folder", "text", "h5"])
def test_another_kind_of_file_is_an_error(tmp_path, made):
    path = tmp_path / "cells.h5ad"
    if made == "folder":
        path.mkdir()
    elif made == "text":
        path.write_text("not a screen")
    else:
        with h5py.File(path, "w") as file:
            file["X"] = np.ones((3, 3))
    with pytest.raises(ValueError, match="cells.h5ad"):
        pseudobulk(path)


@pytest.mark.parametrize("screens", [[], ["nowhere.h5ad"]])
def test_no_screen_is_an_error(screens):
    with pytest.raises(ValueError, match="no screen|no file"):
        pseudobulk(screens)


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of cells of all blocks that are looked at from now on."""
    reads: list[int] = []
    block = BlockTask.block

    def counted(job, values):
        reads.append(len(values.indptr) - 1)
        return block(job, values)

    monkeypatch.setattr(BlockTask, "block", counted)
    return reads


def test_cells_are_read_once(monkeypatch):
    cells = screen()
    expected = pseudobulk(cells)
    reads = count_reads(monkeypatch)
    assert_same_effects(pseudobulk(cells, chunk_size=20), expected)
    assert len(reads) == 12 + 1  # and the first block to see what the matrix holds


def test_a_wrong_guess_of_what_the_matrix_holds_is_mended(monkeypatch):
    import scanpy as sc

    # Ten cells whose logs are whole numbers, then cells whose are not.
    cells = screen()
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    cells.X[:10] = np.rint(cells.X[:10].toarray())
    expected = pseudobulk(cells)
    reads = count_reads(monkeypatch)
    found = pseudobulk(cells, chunk_size=10)
    assert len(reads) > 2 * 24
    assert found.uns["scapp"]["pseudobulk"]["input"] == "log-normalised"
    assert_same_effects(found, expected)


def test_raw_counts_in_one_file_and_logs_in_another_are_refused(tmp_path):
    import scanpy as sc

    _, paths = pieces(tmp_path)
    logs = ad.read_h5ad(paths[2])
    sc.pp.normalize_total(logs, target_sum=1e4)
    sc.pp.log1p(logs)
    logs.write_h5ad(paths[2])
    with pytest.raises(ValueError, match=r"raw counts.*one.h5ad.*log-normalised.*three.h5ad"):
        pseudobulk(paths)
