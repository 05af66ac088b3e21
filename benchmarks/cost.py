"""Time, memory and size of the main paths, as a Markdown table; run on an otherwise idle machine.

python benchmarks/cost.py --data ../shared/data
"""

from __future__ import annotations

import argparse
import itertools
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch


def import_seconds() -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import scapp"], check=True)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    rows = [("`import scapp`, seconds", f"{import_seconds():.2f}")]

    import scapp

    torch.set_num_threads(args.threads)
    for name, read in (("doubles", scapp.benchmark.norman_doubles), ("singles", scapp.benchmark.k562_singles)):
        task = read(args.data)
        evidence = {"network_key": task.sources.network_keys, "gene_features_key": list(task.gene_features_key)}
        train = task.training(task.splits[0], networks=True)
        begin = time.perf_counter()
        scapp.model.APP.setup_anndata(train, **evidence)
        model = scapp.model.APP(train)
        model.train(enable_progress_bar=False)
        rows.append((f"{name}: set up and train, seconds", f"{time.perf_counter() - begin:.1f}"))
        rows.append((f"{name}: learned scalars", f"{model.n_parameters:,}"))
        rows.append(
            (f"{name}: peak memory so far, GB", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f}")
        )
        if name == "doubles":
            singles = train.obs_names[train.obs["n_perturbed_genes"] == 1]
            pairs = ["+".join(pair) for pair in itertools.combinations(singles, 2)]
            begin = time.perf_counter()
            model.predict(pairs)
            seconds = time.perf_counter() - begin
            rows.append(
                (f"predict all {len(pairs):,} pairs, ms per perturbation", f"{1000 * seconds / len(pairs):.3f}")
            )
    print("| what | measured |\n|---|---|")
    for name, value in rows:
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
