"""Train GEARS and write its predictions: run by the Python of the environment that has GEARS, where scapp is not.

    python _gears_script.py FOLDER

reads ``FOLDER/cells.h5ad`` and ``FOLDER/split.json`` and writes ``FOLDER/predictions.npz`` (labels, genes, lfc) and
``FOLDER/report.json``. It ends with status 3 if GEARS is not installed. Written against cell-gears 0.1.2, for Python 3.8
and later.
"""

import json
import os
import pickle
import random
import sys
import traceback

NOT_INSTALLED = 3


def main(folder: str) -> int:
    """Train and predict; see the top of this file."""
    try:
        import anndata
        import numpy as np
        from gears import GEARS, PertData
    except ImportError:
        traceback.print_exc()
        return NOT_INSTALLED

    with open(os.path.join(folder, "split.json")) as file:
        split = json.load(file)
    cells = anndata.read_h5ad(os.path.join(folder, "cells.h5ad"))
    seed = split["seed"]
    random.seed(seed)
    np.random.seed(seed)
    if "torch" in sys.modules:  # GEARS has loaded it
        sys.modules["torch"].manual_seed(seed)

    data_path = os.path.join(folder, "gears")
    options = {"default_pert_graph": split["default_pert_graph"]}
    if not split["default_pert_graph"]:
        # The genes of the held-out perturbations have no cells here, and belong to the graph all the same.
        options["gene_set_path"] = os.path.join(folder, "graph_genes.pkl")
        with open(options["gene_set_path"], "wb") as file:
            pickle.dump(split["graph_genes"], file)
    data = PertData(data_path, **options)
    data.new_data_process(dataset_name=split["name"], adata=cells)
    # Processing keeps the perturbations that are not in the graph, and would take their cells for controls; loading
    # what was processed drops them.
    data.load(data_path=os.path.join(data_path, split["name"]))
    there = set(data.adata.obs["condition"].unique())
    conditions = {part: [label for label in split[part] if label in there] for part in ("train", "val")}
    left_out = [label for part in ("train", "val") for label in split[part] if label not in there]
    if not conditions["val"]:
        conditions["val"] = [label for label in conditions["train"] if label != "ctrl"][-1:]
    split_path = os.path.join(folder, "conditions.pkl")
    with open(split_path, "wb") as file:
        pickle.dump({"train": conditions["train"], "val": conditions["val"], "test": []}, file)
    data.prepare_split(split="custom", seed=seed, split_dict_path=split_path)
    data.get_dataloader(batch_size=split["batch_size"], test_batch_size=4 * split["batch_size"])
    # There are no held-out cells to be tested on: scapp scores the predictions.
    data.dataloader.pop("test_loader", None)

    model = GEARS(data, device=split["device"])
    model.model_initialize(hidden_size=split["hidden_size"])
    model.train(epochs=split["epochs"], lr=split["lr"])

    known = set(model.pert_list)
    possible = [genes for genes in split["test"] if known.issuperset(genes)]
    predicted = model.predict(possible) if possible else {}
    genes = [str(gene) for gene in data.adata.var["gene_name"]]
    control = np.asarray(cells.X[(cells.obs["condition"] == "ctrl").to_numpy()].mean(axis=0)).ravel()
    lfc = np.zeros((len(possible), len(genes)), dtype=np.float32)
    for i, names in enumerate(possible):
        lfc[i] = np.asarray(predicted["_".join(names)]).ravel() - control
    np.savez(
        os.path.join(folder, "predictions.npz"),
        labels=np.array(["+".join(names) for names in possible], dtype=str),
        genes=np.array(genes, dtype=str),
        lfc=lfc,
    )
    report = {
        "not_in_graph": ["+".join(names) for names in split["test"] if not known.issuperset(names)],
        "left_out_of_training": left_out,
        "n_train": len(conditions["train"]),
        "n_val": len(conditions["val"]),
    }
    with open(os.path.join(folder, "report.json"), "w") as file:
        json.dump(report, file)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
