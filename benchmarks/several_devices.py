"""The same training on one device and on several: seconds, and how far the predictions differ.

Each device trains some of the networks of the ensemble. The screen is that of `train_scale.py`; each number of devices runs in
a process of its own.

python benchmarks/several_devices.py                                   # processes of this machine's processor
python benchmarks/several_devices.py --accelerator gpu --devices 1 2 4  # graphics cards
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from train_scale import simulate


def train(devices: int, accelerator: str, strategy: str, n_perturbations: int, out: Path) -> None:
    import scvi

    import scapp

    scvi.settings.seed = 0
    effects, names, _ = simulate(n_perturbations, n_genes=2000, n_edges=100_000)
    scapp.model.APP.setup_anndata(effects, control=None, layer="lfc")
    model = scapp.model.APP(effects, n_models=4)
    begin = time.perf_counter()
    model.train(accelerator=accelerator, devices=devices, strategy=strategy, enable_progress_bar=False)
    seconds = time.perf_counter() - begin
    predicted = model.predict(list(names)).layers["predicted_lfc"]
    if model.trainer.is_global_zero:
        np.savez(out, seconds=seconds, predicted=predicted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument(
        "--strategy", default="auto", help="ddp runs this script again, ddp_notebook copies the process"
    )
    parser.add_argument("--perturbations", type=int, default=1600)
    parser.add_argument("--out", type=Path, help="where one number of devices is measured, and writes what it found")
    args = parser.parse_args()
    if args.out:
        train(args.devices[0], args.accelerator, args.strategy, args.perturbations, args.out)
        return
    print("| devices | seconds | largest difference from the first |\n|---:|---:|---:|")
    first = None
    with tempfile.TemporaryDirectory() as folder:
        for devices in args.devices:
            out = Path(folder) / f"{devices}.npz"
            strategy = args.strategy if devices > 1 else "auto"
            options = ["--devices", str(devices), "--accelerator", args.accelerator, "--strategy", strategy]
            options += ["--perturbations", str(args.perturbations), "--out", str(out)]
            run = subprocess.run([sys.executable, __file__, *options], capture_output=True, text=True)
            if run.returncode:
                raise RuntimeError(run.stderr)
            found = np.load(out)
            first = found["predicted"] if first is None else first
            difference = np.nanmax(np.abs(found["predicted"] - first))
            print(f"| {devices} | {found['seconds']:.0f} | {difference:.0e} |", flush=True)


if __name__ == "__main__":
    main()
