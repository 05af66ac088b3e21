"""Pseudobulk of a million cells from disk, and beside scanpy's aggregation in memory: seconds and peak memory.

Seconds of the processor are those of all processes, with imports and the start of workers.

The screen is simulated, sparse, and written in pieces; it is deleted at the end.

python benchmarks/pseudobulk_scale.py --folder /scratch           # 1,000,000 cells x 8,000 genes, about 5 % not zero
python benchmarks/pseudobulk_scale.py --cells 100000 --genes 8000
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

N_PERTURBATIONS = 2000
PIECE = 20_000  # cells written at a time
IN_MEMORY = (100_000, 8000)
LARGE_CHUNK = 10_000  # cells; those of anndata.experimental.read_lazy have 1,000


def annotation(n_cells: int, n_genes: int):
    import pandas as pd

    labels = np.array(["control", *(f"G{i}" for i in range(N_PERTURBATIONS))], dtype=object)
    codes = np.random.default_rng(0).integers(-N_PERTURBATIONS // 10, len(labels), size=n_cells).clip(0)
    obs = pd.DataFrame(
        {"perturbation": pd.Categorical.from_codes(codes, labels)}, index=[f"cell{i}" for i in range(n_cells)]
    )
    return obs, pd.DataFrame(index=[f"G{i}" for i in range(n_genes)])


def piece_of_counts(rng: np.random.Generator, n_cells: int, n_genes: int, density: float):
    """CSR counts: so many genes of each cell, spread evenly, most of them one."""
    from scipy import sparse

    per_cell = rng.poisson(density * n_genes, size=n_cells).clip(1, n_genes)
    indptr = np.concatenate([[0], np.cumsum(per_cell)])
    # A random start and random steps of mean n_genes / per_cell keep the genes of a cell sorted and distinct.
    step = np.repeat(np.maximum(n_genes // per_cell, 1), per_cell)
    place = np.arange(indptr[-1]) - np.repeat(indptr[:-1], per_cell)
    indices = (place * step + rng.integers(step)).astype(np.int32)
    data = (1 + rng.geometric(0.6, size=len(indices)) // 2).astype(np.float32)
    return sparse.csr_matrix((data, indices, indptr), shape=(n_cells, n_genes))


def write(path: Path, n_cells: int, n_genes: int, density: float) -> int:
    """Write the screen piece by piece; how many values it holds."""
    import anndata as ad

    obs, var = annotation(n_cells, n_genes)
    rng = np.random.default_rng(1)
    first = min(PIECE, n_cells)
    ad.AnnData(piece_of_counts(rng, first, n_genes, density), var=var).write_h5ad(path)
    import h5py

    with h5py.File(path, "r+") as file:
        del file["obs"]
        ad.io.write_elem(file, "obs", obs)
        on_disk = file["X"]
        ad_matrix = ad.io.sparse_dataset(on_disk)
        for start in range(first, n_cells, PIECE):
            ad_matrix.append(piece_of_counts(rng, min(PIECE, n_cells - start), n_genes, density))
        return on_disk["data"].shape[0]


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def used() -> dict:
    """Peak memory of this process; seconds of the processor, also of processes that it started and that ended."""
    of = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return {"peak_gb": peak_gb(), "processor": sum(sum(resource.getrusage(who)[:2]) for who in of)}


def from_disk(path: Path) -> dict:
    import scapp.pp

    begin = time.perf_counter()
    scapp.pp.pseudobulk(path)
    return {"seconds": time.perf_counter() - begin, **used()}


def lazy_screen(path: Path, large_chunks: bool):
    import anndata as ad
    import h5py

    if not large_chunks:
        return ad.experimental.read_lazy(path)
    file = h5py.File(path)
    X = ad.experimental.read_elem_lazy(file["X"], chunks=(LARGE_CHUNK, -1))
    return ad.AnnData(X=X, obs=ad.io.read_elem(file["obs"]), var=ad.io.read_elem(file["var"]))


def with_dask(path: Path, cluster: bool, large_chunks: bool) -> dict:
    import dask

    import scapp.pp

    lazy = lazy_screen(path, large_chunks)
    if cluster:
        from distributed import Client, LocalCluster

        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as local, Client(local):
            begin = time.perf_counter()
            scapp.pp.pseudobulk(lazy)
            seconds = time.perf_counter() - begin
        worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        return {"seconds": seconds, **used(), "worker_gb": worker}
    with dask.config.set(scheduler="threads", num_workers=2):
        begin = time.perf_counter()
        scapp.pp.pseudobulk(lazy)
    return {"seconds": time.perf_counter() - begin, **used()}


def beside_scanpy(n_cells: int, n_genes: int, density: float) -> dict:
    """Both on the same log-normalised matrix in memory; the best of three runs each."""
    import anndata as ad
    import scanpy as sc

    import scapp.pp

    obs, var = annotation(n_cells, n_genes)
    cells = ad.AnnData(piece_of_counts(np.random.default_rng(1), n_cells, n_genes, density), obs=obs, var=var)
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    calls = {
        "scanpy": lambda: sc.get.aggregate(cells, by="perturbation", func=["mean", "var"]),
        "scapp": lambda: scapp.pp.pseudobulk(cells),
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(3):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - begin)
    effects = calls["scapp"]()
    np.testing.assert_allclose(effects.X, calls["scanpy"]()[effects.obs_names].layers["mean"], rtol=1e-4, atol=1e-5)
    return {name: min(times) for name, times in seconds.items()}


def in_own_process(*arguments: object) -> dict:
    found = subprocess.run([sys.executable, __file__, "--one", *map(str, arguments)], capture_output=True, text=True)
    if found.returncode:
        raise RuntimeError(found.stderr)
    return json.loads(found.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("."))
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--genes", type=int, default=8000)
    parser.add_argument("--density", type=float, default=0.05)
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        what, *rest = args.one
        if what == "disk":
            found = from_disk(Path(rest[0]))
        elif what == "scanpy":
            found = beside_scanpy(int(rest[0]), int(rest[1]), float(rest[2]))
        else:
            found = with_dask(Path(rest[0]), cluster="cluster" in what, large_chunks="large" in what)
        print(json.dumps(found))
        return

    print("| what | seconds | of processor | peak memory, GB |\n|---|---|---|---|", flush=True)
    path = args.folder / "pseudobulk_scale.h5ad"
    needed = 8 * args.cells * args.genes * args.density
    if shutil.disk_usage(args.folder).free < 1.2 * needed:
        raise SystemExit(
            f"{args.folder} has not the {needed / 1e9:.0f} GB that the screen takes; name another --folder."
        )
    try:
        begin = time.perf_counter()
        n_values = write(path, args.cells, args.genes, args.density)
        what = f"write {args.cells:,} cells x {args.genes:,} genes, {n_values / args.cells / args.genes:.1%} not zero"
        what += f", {path.stat().st_size / 1e9:.1f} GB"
        print(f"| {what} | {time.perf_counter() - begin:.0f} | | {peak_gb():.2f} |", flush=True)
        kinds = {"disk": "by path", "threads": "Dask, two threads", "cluster": "Dask, two processes"}
        kinds |= {f"large {kind}": f"{kinds[kind]}, chunks of {LARGE_CHUNK:,} cells" for kind in ("threads", "cluster")}
        for kind, name in kinds.items():
            found = in_own_process(kind, path)
            worker = f", the larger worker {found['worker_gb']:.2f}" if "worker_gb" in found else ""
            seconds = f"{found['seconds']:.0f} | {found['processor']:.0f}"
            print(f"| pseudobulk {name} | {seconds} | {found['peak_gb']:.2f}{worker} |", flush=True)
    finally:
        path.unlink(missing_ok=True)
    found = in_own_process("scanpy", *IN_MEMORY, args.density)
    for name, seconds in found.items():
        print(f"| {IN_MEMORY[0]:,} cells x {IN_MEMORY[1]:,} genes in memory, {name} | {seconds:.1f} | | |")


if __name__ == "__main__":
    main()
