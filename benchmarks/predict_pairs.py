"""Time and memory of predicting very many pairs, as a Markdown table; run on an otherwise idle machine.

python benchmarks/predict_pairs.py --data ../shared/data --pairs 1000000

A model of the Norman screen predicts pairs of genes of its network, most of them never perturbed, over 2,000 measured genes.
Each row is a process of its own, so that its peak memory is its own. Times are those of the processor, summed over threads: with one
thread and an idle machine, a clock shows the same.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

WAYS = {
    "lfc": "to zarr: log-fold-changes",
    "lfc, std": "to zarr: log-fold-changes and standard deviations",
    "lfc, std, attention": "to zarr: these and attention",
    "screen": "`scapp.tl.screen`: cosine with a signature, best 100 kept",
}


def train(data: Path, folder: str) -> None:
    """Train a model of the Norman screen and save it."""
    import scapp

    task = scapp.benchmark.norman_doubles(data)
    effects = task.training(task.splits[0], networks=True)
    scapp.model.APP.setup_anndata(
        effects,
        network_key=task.sources.network_keys,
        gene_features_key=list(task.gene_features_key),
    )
    model = scapp.model.APP(effects)
    model.train(enable_progress_bar=False)
    model.save(folder, save_anndata=True)


def pairs_of(genes: list[str], n: int) -> Iterator[str]:
    return itertools.islice(map("+".join, itertools.combinations(genes, 2)), n)


def measure(folder: str, way: str, n_pairs: int, threads: int) -> dict[str, float]:
    """Predict pairs in one way; CPU seconds, memory before and at the peak in GB, size on disk in GB."""
    import pandas as pd
    import torch

    import scapp

    torch.set_num_threads(threads)
    model = scapp.model.APP.load(folder)
    # The measured singles first, then other genes of the network: as many as make enough pairs.
    singles = [model.genes[node] for node in model.module.single_row]
    others = [gene for gene in model.genes if gene not in set(singles)]
    n_genes = next(n for n in itertools.count(2) if math.comb(n, 2) >= n_pairs)
    genes = (singles + others)[:n_genes]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    size = 0.0
    with tempfile.TemporaryDirectory(dir=".") as scratch:
        begin = time.process_time()
        if way == "screen":
            wanted = pd.Series(model.predict(singles[:1]).layers["predicted_lfc"][0], index=model.genes).dropna()
            pairs = pairs_of(genes, n_pairs)
            scapp.tl.screen(model, pairs, objective=wanted, n_best=100, progress_bar=False)
        else:
            path = Path(scratch) / "pairs.zarr"
            model.predict_to_zarr(
                path, pairs_of(genes, n_pairs), std="std" in way, attention="attention" in way, progress_bar=False
            )
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e9
        seconds = time.process_time() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"genes": n_genes, "seconds": seconds, "before": before, "peak": peak, "size": size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data")
    parser.add_argument("--pairs", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=["lfc, std", "screen"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        folder, way, n_pairs = args.one
        print("RESULT " + json.dumps(measure(folder, way, int(n_pairs), args.threads)))
        return
    header = (
        "| way | pairs | genes | CPU seconds | pairs a second | ms per pair | memory before, GB | peak, GB | file, GB |"
    )
    print(header + "\n|---|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        train(args.data, f"{folder}/model")
        for way, n_pairs in itertools.product(args.ways, args.pairs):
            call = [sys.executable, __file__, "--threads", str(args.threads)]
            run = subprocess.run(
                [*call, "--one", f"{folder}/model", way, str(n_pairs)], check=True, capture_output=True, text=True
            )
            r = json.loads(next(line for line in run.stdout.splitlines() if line.startswith("RESULT"))[7:])
            print(
                f"| {WAYS[way]} | {n_pairs:,} | {r['genes']:,} | {r['seconds']:.1f} | {n_pairs / r['seconds']:,.0f} | "
                f"{1000 * r['seconds'] / n_pairs:.3f} | {r['before']:.2f} | {r['peak']:.2f} | {r['size']:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
