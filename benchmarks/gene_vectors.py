"""What text embeddings of genes add to STRING and the Gene Ontology on unseen knockdowns (K562), as a Markdown table.

python benchmarks/gene_vectors.py --data ../shared/data

Embeddings of RefSeq summaries (MiniLM, 384 dimensions), as they are and without their mean; mean over the five splits of the mean L2
of the held-out knockdowns, relative to the mean of the training.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np

import scapp
from scapp.model import APP

TEXT = "gene_summary_minilm_l6_v2.npz"
EVIDENCE = {
    "STRING": [],
    "STRING, text embeddings": ["text"],
    "STRING, text embeddings without their mean": ["centred_text"],
    "STRING, Gene Ontology": ["go"],
    "STRING, Gene Ontology, text embeddings": ["go", "text"],
    "STRING, Gene Ontology, text embeddings without their mean": ["go", "centred_text"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data")
    args = parser.parse_args()
    logging.getLogger("scapp").setLevel(logging.ERROR)
    task = scapp.benchmark.k562_singles(args.data)
    inputs = task.inputs()
    scapp.pp.add_gene_features(inputs, args.data / "networks" / TEXT, key_added="text", control=None)
    inputs.varm["centred_text"] = inputs.varm["text"] - np.nanmean(inputs.varm["text"], axis=0)
    measured = inputs.var["measured"].to_numpy(dtype=bool)
    print("| evidence of the model | error |\n|---|---|")
    for name, features in EVIDENCE.items():
        ratios = []
        for split in task.splits:
            effects = inputs[list(split.train)].copy()
            APP.setup_anndata(
                effects, control=None, layer="lfc", network_key="network", gene_features_key=features or None
            )
            model = APP(effects)
            model.train(enable_progress_bar=False)
            found = model.predict(list(split.test)).layers["predicted_lfc"][:, measured]
            truth = inputs[list(split.test)].layers["lfc"][:, measured]
            mean = effects.layers["lfc"][:, measured].mean(axis=0)
            ratios.append(np.linalg.norm(truth - found, axis=1).mean() / np.linalg.norm(truth - mean, axis=1).mean())
        print(f"| {name} | {np.mean(ratios):.3f} |", flush=True)


if __name__ == "__main__":
    main()
