"""Perturbations as points: neighbours, modules and two dimensions, by scanpy."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd
from anndata import AnnData

from scapp._checked import checked
from scapp._effects import label_column
from scapp._genes import check_layer, check_no_view, measured_mask, shorten
from scapp._keys import Key
from scapp.tl._rows import dense

if TYPE_CHECKING:
    from collections.abc import Iterable


class EmbedsPerturbations(Protocol):
    """A model with a vector for each perturbation, such as :class:`scapp.model.APP`."""

    def get_perturbation_embeddings(self, perturbations: Iterable[str]) -> pd.DataFrame:
        """Return vectors, one row per label."""
        ...


@checked
def perturbation_embedding(
    adata: AnnData,
    model: EmbedsPerturbations | None = None,
    *,
    layer: str = Key.layers.LFC,
    n_pcs: int = 30,
    n_neighbors: int = 10,
    resolution: float = 1.0,
    min_dist: float = 0.3,
    perturbation_key: str = Key.obs.PERTURBATION,
    key_added: str = Key.uns.PERTURBATION_NEIGHBORS,
    module_key: str = Key.obs.MODULE,
    seed: int = 0,
) -> None:
    """Embed perturbations by their effects or their states in a model, and cluster them into modules.

    Perturbations are represented by the cell states of the model (equation 6 of :cite:t:`Zhao2025`) or, without a model, by the
    principal components of their effects. scanpy finds their nearest neighbours, the modules of the graph of neighbours
    (Leiden's algorithm, :cite:p:`Traag2019`) and a layout in two dimensions (UMAP, :cite:p:`McInnes2018`).

    Parameters
    ----------
    adata
        One observation per perturbation: effects or predictions. Changed in place.
    model
        A trained :class:`scapp.model.APP`. It can also embed perturbations that were not measured.
    layer
        Without a model: the layer of log-fold-changes, such as ``"lfc"`` or ``"predicted_lfc"``. Genes that were not
        measured are left out.
    n_pcs
        Without a model: number of principal components; fewer if there are not enough.
    n_neighbors
        Size of the neighbourhoods, including the perturbation itself.
    resolution
        Resolution of the clustering; larger values give more modules.
    min_dist
        Minimum distance between points in UMAP.
    perturbation_key
        Column of `obs` with the labels.
    key_added
        Prefix of the keys of the results; see below.
    module_key
        Column of `obs` for the modules.
    seed
        The same seed gives the same result.

    Returns
    -------
    None. `adata` gains, with the default of `key_added`:

    - ``obsm["X_perturbation"]``: the representation, float32, shape (n_perturbations, n_dimensions)
    - ``obsm["X_perturbation_umap"]``: the layout, float32, shape (n_perturbations, 2)
    - ``obs["module"]``: the module of each perturbation, categorical, numbered from the largest
    - ``obsp["perturbation_distances"]``, ``obsp["perturbation_connectivities"]`` and ``uns["perturbation"]``: the graph of
      neighbours, for scanpy's functions with ``neighbors_key="perturbation"``

    Raises
    ------
    ValueError
        If `adata` is a view, the layer or the column of labels is missing, a label occurs twice, a value is not finite, or
        there are too few perturbations. Nothing is written then.
    ImportError
        If igraph, which finds the modules, is not installed.

    Examples
    --------
    >>> scapp.tl.perturbation_embedding(effects, model)
    >>> scapp.pl.perturbation_embedding(effects, color="module")
    """
    check_no_view(adata, "scapp.tl.perturbation_embedding")
    if importlib.util.find_spec("igraph") is None:
        raise ImportError("Modules are found with igraph. Install it: pip install 'scapp[modules]'.")
    labels = _labels(adata, label_column(adata, perturbation_key))
    if not 2 <= n_neighbors <= adata.n_obs:
        raise ValueError(
            f"n_neighbors must be from 2 to the number of perturbations, {adata.n_obs}; found {n_neighbors}. "
            f"Pass n_neighbors={max(2, adata.n_obs // 2)}."
        )
    if model is not None:
        values = model.get_perturbation_embeddings(labels).to_numpy(dtype=np.float32)
        params = {"of": "model"}
    else:
        values = _principal_components(_effects(adata, layer), n_pcs)
        params = {"of": layer}
    done = _neighbours(values, adata.obs_names, n_neighbors, resolution, min_dist, seed)

    adata.obsm[f"X_{key_added}"] = values
    adata.obsm[f"X_{key_added}_umap"] = done.obsm["X_umap"].astype(np.float32)
    for kind in ("distances", "connectivities"):
        adata.obsp[f"{key_added}_{kind}"] = done.obsp[kind]
    adata.uns[key_added] = {
        "connectivities_key": f"{key_added}_connectivities",
        "distances_key": f"{key_added}_distances",
        "params": {**done.uns["neighbors"]["params"], **params, "use_rep": f"X_{key_added}", "resolution": resolution},
    }
    adata.obs[module_key] = pd.Categorical(done.obs["leiden"], categories=done.obs["leiden"].cat.categories)


def _labels(adata: AnnData, key: str) -> list[str]:
    if key not in adata.obs:
        raise ValueError(
            f"adata.obs has no column {key!r} that names the perturbations; it has {shorten(map(repr, adata.obs)) or 'none'}. "
            "Name it with perturbation_key=…."
        )
    labels = adata.obs[key].astype(str)
    if not labels.is_unique:
        raise ValueError(
            f"{shorten(map(repr, labels[labels.duplicated()].unique()))} in obs[{key!r}] label several observations each; "
            "expected one observation per perturbation. Make effects of cells with `scapp.pp.pseudobulk(adata)`."
        )
    return list(labels)


def _effects(adata: AnnData, layer: str) -> np.ndarray:
    """Return log-fold-changes of the measured genes, of shape (n_perturbations, n_measured)."""
    mend = (
        "Observed effects are made by `scapp.pp.pseudobulk`, predicted ones by `APP.predict`; name theirs with layer=…."
    )
    check_layer(adata, layer, mend)
    values = dense(adata.layers[layer])[:, measured_mask(adata)]
    if not np.isfinite(values).all():
        bad = adata.obs_names[~np.isfinite(values).all(axis=1)]
        raise ValueError(
            f"layers[{layer!r}] is not finite for {shorten(map(repr, bad))}. Leave these perturbations out."
        )
    return values


def _principal_components(values: np.ndarray, n: int) -> np.ndarray:
    if n < 1:
        raise ValueError(f"n_pcs must be at least 1, found {n}.")
    from sklearn.decomposition import PCA

    return PCA(min(n, *values.shape), svd_solver="full").fit_transform(values).astype(np.float32)


def _neighbours(
    values: np.ndarray, names: pd.Index, n_neighbors: int, resolution: float, min_dist: float, seed: int
) -> AnnData:
    """Return a separate AnnData with the graph of neighbours, its modules and its layout."""
    import scanpy as sc

    scratch = AnnData(obs=pd.DataFrame(index=names), obsm={"X": values})
    sc.pp.neighbors(scratch, n_neighbors=n_neighbors, use_rep="X", random_state=seed)
    sc.tl.leiden(
        scratch, resolution=resolution, flavor="igraph", directed=False, n_iterations=-1, random_state=seed
    )  # fmt: skip
    # Small graphs fall apart into pieces, which the usual start from eigenvectors does not place relative to each other.
    start = np.zeros((len(values), 2), dtype=np.float32)
    components = _principal_components(values, 2)
    start[:, : components.shape[1]] = components
    sc.tl.umap(scratch, min_dist=min_dist, init_pos=start, random_state=seed)
    return scratch
