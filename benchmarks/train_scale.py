"""Time, memory and quality of training, from a subset of a genome-wide screen to all of it.

The screen is simulated: genes in communities of a network, effects of low rank that the genes of a community share, and noise.
Each size runs in a process of its own, so that its peak memory is its own.

python benchmarks/train_scale.py                      # all sizes, table and picture
python benchmarks/train_scale.py --largest            # 9,800 perturbations x 8,000 genes x 300,000 edges only
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SIZE_OF_COMMUNITY, RANK = 100, 24
N_HELD_OUT = 200
BASE = {"perturbations": 790, "genes": 2000, "edges": 100_000}
LARGEST = {"perturbations": 9800, "genes": 8000, "edges": 300_000}
CURVES = {
    "perturbations": [400, 790, 1600, 2200, 3200, 6400, 9800],
    "genes": [1000, 2000, 4000, 8000],
    "edges": [50_000, 100_000, 200_000, 300_000],
}


def simulate(n_perturbations: int, n_genes: int, n_edges: int, seed: int = 0):
    """Effects to train on and effects held out; the first rows and the held-out rows are the same at every size of training."""
    import anndata as ad
    import pandas as pd
    from scipy import sparse

    rng = np.random.default_rng(seed)
    n_nodes = LARGEST["perturbations"] + N_HELD_OUT
    community = rng.permutation(n_nodes) % (n_nodes // SIZE_OF_COMMUNITY)
    order = np.argsort(community, kind="stable")
    start = np.searchsorted(community[order], np.arange(community.max() + 2))
    # Edges, both directions; two of three within a community.
    a = rng.integers(n_nodes, size=n_edges // 2)
    size = np.diff(start)[community[a]]
    b = np.where(
        rng.random(len(a)) < 2 / 3, order[start[community[a]] + rng.integers(size)], rng.integers(n_nodes, size=len(a))
    )
    network = sparse.coo_matrix((np.ones(len(a), np.float32), (a, b)), shape=(n_nodes,) * 2).tocsr()
    network = sparse.csr_matrix(((network + network.T) > 0), dtype=np.float32)
    network.setdiag(0)
    network.eliminate_zeros()

    # Programs of a gene: those of its community and its own; a third of the genes have effects that are hardly there.
    scores = rng.normal(size=(community.max() + 1, RANK))[community] + 0.5 * rng.normal(size=(n_nodes, RANK))
    scores *= rng.lognormal(-0.5, 0.8, size=n_nodes)[:, None] * np.linspace(1, 0.2, RANK)
    programs = rng.normal(size=(RANK, LARGEST["genes"])) * (rng.random((RANK, LARGEST["genes"])) < 0.2)
    shared = 0.15 * rng.normal(size=LARGEST["genes"])

    def effects_of(nodes: np.ndarray, noise_seed: int) -> np.ndarray:
        noise = np.random.default_rng(noise_seed).normal(size=(len(nodes), LARGEST["genes"]))
        return (0.15 * scores[nodes] @ programs + shared + 0.1 * noise)[:, :n_genes].astype(np.float32)

    shuffled = rng.permutation(n_nodes)
    held_out, trained = shuffled[:N_HELD_OUT], shuffled[N_HELD_OUT : N_HELD_OUT + n_perturbations]
    names = np.array([f"G{i}" for i in range(n_nodes)], dtype=object)
    values = np.full((n_perturbations, n_nodes), np.nan, dtype=np.float32)
    values[:, :n_genes] = effects_of(trained, 1)
    effects = ad.AnnData(
        obs=pd.DataFrame({"perturbation": names[trained]}, index=names[trained]),
        var=pd.DataFrame({"measured": np.arange(n_nodes) < n_genes}, index=names),
        layers={"lfc": values},
    )
    effects.varp["network"] = network
    return effects, names[held_out], effects_of(held_out, 2)


def measure(n_perturbations: int, n_genes: int, n_edges: int, threads: int) -> dict:
    import torch

    import scapp

    torch.set_num_threads(threads)
    effects, names, truth = simulate(n_perturbations, n_genes, n_edges)
    begin, processor = time.perf_counter(), time.process_time()
    scapp.model.APP.setup_anndata(effects)
    model = scapp.model.APP(effects)
    set_up = time.perf_counter() - begin
    model.train(enable_progress_bar=False)
    seconds, processor = time.perf_counter() - begin, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    begin = time.perf_counter()
    predicted = model.predict(list(names)).layers["predicted_lfc"][:, :n_genes]
    ms = 1000 * (time.perf_counter() - begin) / len(names)
    mean = effects.layers["lfc"][:, :n_genes].mean(0)

    def error(x: np.ndarray) -> float:
        return float(np.linalg.norm(truth - x, axis=1).mean())

    return {
        "perturbations": n_perturbations, "genes": n_genes, "edges": int(effects.varp["network"].nnz),
        "set_up": set_up, "seconds": seconds, "processor": processor, "peak_gb": peak, "ms": ms,
        "l2": error(predicted), "l2_mean": error(mean),
    }  # fmt: skip


def in_own_process(size: dict, threads: int) -> dict:
    call = [sys.executable, __file__, "--one", *(str(size[k]) for k in BASE), "--threads", str(threads)]
    found = subprocess.run(call, capture_output=True, text=True)
    if found.returncode:
        raise RuntimeError(found.stderr)
    return json.loads(found.stdout.splitlines()[-1])


def table(rows: list[dict]) -> str:
    lines = [
        "| perturbations | genes | edges | seconds | of these set-up | processor seconds | peak GB | ms a prediction | "
        "L2 / mean's |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['perturbations']:,} | {r['genes']:,} | {r['edges']:,} | {r['seconds']:.0f} | {r['set_up']:.0f} | "
        f"{r['processor']:.0f} | "
        f"{r['peak_gb']:.1f} | {r['ms']:.1f} | {r['l2'] / r['l2_mean']:.3f} |"
        for r in rows
    ]
    return "\n".join(lines)


def picture(rows: dict[str, list[dict]], path: Path) -> None:
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    figure, axes = plt.subplots(2, len(rows), figsize=(7, 3.6), sharey="row", layout="constrained")
    for column, (what, found) in zip(axes.T, rows.items(), strict=True):
        x = [r[what] for r in found]
        for axis, key, label in zip(
            column, ("seconds", "peak_gb"), ("seconds to train", "peak memory, GB"), strict=True
        ):
            axis.plot(x, [r[key] for r in found], "o-", color="#0072B2", markersize=3.5, linewidth=1)
            axis.set(xscale="log", yscale="log")
            axis.yaxis.set_major_locator(LogLocator(base=2))
            axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.grid(alpha=0.3, linewidth=0.5)
            axis.tick_params(labelsize=7)
            axis.minorticks_off()
            axis.set_xticks(x, [f"{v:,.0f}" for v in x], rotation=35, ha="right")
            if what == "perturbations":
                axis.set_ylabel(label, fontsize=8)
        column[0].tick_params(labelbottom=False)
        column[1].set_xlabel(what, fontsize=8)
    figure.savefig(path, dpi=200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", type=int, nargs=3, metavar=tuple(BASE))
    parser.add_argument("--largest", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("train_scale.png"))
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(*args.one, threads=args.threads)))
        return
    if args.largest:
        print(table([in_own_process(LARGEST, args.threads)]))
        return
    curves: dict[str, list[dict]] = {}
    for what, values in CURVES.items():
        curves[what] = [in_own_process({**BASE, what: value}, args.threads) for value in values]
        print(f"Growing {what}:\n\n{table(curves[what])}\n", flush=True)
    picture(curves, args.out)
    subset = in_own_process({**LARGEST, "perturbations": BASE["perturbations"]}, args.threads)
    print(f"The subset and the whole:\n\n{table([subset, in_own_process(LARGEST, args.threads)])}")


if __name__ == "__main__":
    main()
