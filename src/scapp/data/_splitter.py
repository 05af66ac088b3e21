"""Whole perturbations are held out for validation, never cells of one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from scvi import settings
from torch.utils.data import DataLoader

Batch = dict[str, torch.Tensor]


class PerturbationSplitter(LightningDataModule):
    """Hands the training perturbations to the model all at once, as its decoder is solved for them together.

    Where they are too many for that, an epoch goes through them in random parts, and validation predicts from one part.

    Parameters
    ----------
    n_genes_perturbed
        Number of perturbed genes of each perturbation; singles and combinations are held out in the same proportion.
    validation_size
        Share of the perturbations held out, from 0 to below 1.
    n_together
        The most perturbations that are handed out together; no bound if None.
    """

    def __init__(self, n_genes_perturbed: Sequence[int], *, validation_size: float, n_together: int | None = None):
        super().__init__()
        if not 0 <= validation_size < 1:
            raise ValueError(f"validation_size must be at least 0 and below 1, found {validation_size}.")
        rng = np.random.RandomState(seed=settings.seed)
        combined = np.asarray(n_genes_perturbed) > 1
        held_out = []
        for kind in (False, True):
            rows = np.flatnonzero(combined == kind)
            # At least three stay to be trained on.
            n_val = min(round(validation_size * len(rows)), max(len(rows) - 3, 0))
            held_out.append(rng.permutation(rows)[:n_val])
        self.val_idx = np.sort(np.concatenate(held_out)).astype(np.int64)
        self.train_idx = np.setdiff1d(np.arange(len(combined)), self.val_idx)
        self.test_idx = np.array([], dtype=np.int64)
        self.n_train, self.n_val = len(self.train_idx), len(self.val_idx)
        n_parts = max(-(-self.n_train // n_together), 1) if n_together else 1
        self.part_size = -(-self.n_train // n_parts)
        self.seed = int(rng.randint(2**31))
        self.first_part = self.train_idx
        if n_parts > 1:
            self.first_part = np.sort(rng.permutation(self.train_idx)[: self.part_size])

    def train_dataloader(self) -> DataLoader:
        if self.part_size < self.n_train:
            generator = torch.Generator().manual_seed(self.seed)
            return DataLoader(
                self.train_idx.tolist(),
                batch_size=self.part_size,
                shuffle=True,
                generator=generator,
                collate_fn=_as_batch,
            )
        return _one_batch({"fit": torch.as_tensor(self.train_idx)})

    def val_dataloader(self) -> DataLoader | list:
        if not self.n_val:
            return []
        return _one_batch({"fit": torch.as_tensor(self.first_part), "held_out": torch.as_tensor(self.val_idx)})


def _as_batch(rows: list[int]) -> Batch:
    return {"fit": torch.as_tensor(np.sort(rows))}


def _one_batch(batch: Batch) -> DataLoader:
    return DataLoader([batch], batch_size=None)  # type: ignore[arg-type]
