"""Set-up: registers the inputs of the model in an AnnData or MuData."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from anndata import AnnData
from mudata import MuData
from scvi.data import AnnDataManager

from scapp._checked import checked
from scapp._effects import added_keys, control_label, effects_layer, label_column, perturbation_type
from scapp._genes import check_no_view, shorten
from scapp._keys import Key
from scapp.model._fields import (
    EFFECTS,
    FEATURES,
    GENES,
    NETWORK,
    EffectsField,
    GeneFeaturesField,
    GenesField,
    MuDataEffectsField,
    MuDataGeneFeaturesField,
    MuDataGenesField,
    MuDataNetworkField,
    NetworkField,
    numbered,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class SetupMixin:
    """Class methods of :class:`scapp.model.APP` that register data; scvi-tools' base class has the others."""

    if TYPE_CHECKING:
        _get_setup_method_args: Callable[..., dict]
        _create_modalities_attr_dict: Callable[..., Any]
        register_manager: Callable[[AnnDataManager], None]

    @classmethod
    @checked
    def setup_anndata(
        cls,
        adata: AnnData,
        *,
        perturbation_key: str = Key.obs.PERTURBATION,
        control: str | Sequence[str] | None = "control",
        layer: str | None = None,
        network_key: str | Sequence[str] | None = None,
        gene_features_key: str | Sequence[str] | None = None,
        sep: str = "+",
        batch_key: str | None = None,
        kind: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Register the inputs of the model. If `adata` holds cells, their effects are computed here, once.

        Adds only ``adata.uns["_scvi_uuid"]`` and ``adata.uns["_scvi_manager_uuid"]``.

        Parameters
        ----------
        adata
            Cells, including control cells, or effects (one observation per perturbation).
        perturbation_key
            Column of `obs` with labels such as ``"KLF1"``, ``"KLF1+CEBPA"``. Not needed for effects made by
            :func:`scapp.pp.pseudobulk` or :func:`scapp.pp.read_effects`, which store it.
        control
            Label of the control cells. Pass None for effects; those with ``layers["lfc"]`` are recognised without it.
        layer
            Layer with the counts or log-normalised expression of cells, or with the log-fold-changes of effects. If None,
            `X` for cells and ``layers["lfc"]`` for effects.
        network_key
            One or more keys of networks in `varp`. If None, all networks that scapp added, or else ``"network"``.
        gene_features_key
            One or more keys of gene features in `varm`; a row of NaN marks a gene without features. If None, all
            features that scapp added, or none if `network_key` is given.
        sep
            Separator between the genes of a combination.
        batch_key
            Column of `obs` with batches. Each cell is then compared with the controls of its own batch.
        kind
            ``"interference"``, ``"activation"`` or ``"knockout"``, or for a mixed screen a column of `obs` with the kind of
            each perturbation. For targets that were not perturbed alone, the change of the target itself is then predicted
            from the effects of perturbations of that kind on their own targets. If None, the target is predicted like any
            other gene. A warning is given if most measured targets changed in the wrong direction.
        **kwargs
            Passed to scvi-tools.

        Raises
        ------
        ValueError
            For input that the model cannot use. The message says what was found, what was expected and which call fixes it.
        TypeError
            If it is a MuData.
        """
        if isinstance(adata, MuData):
            raise TypeError("Expected an AnnData, found MuData; for a MuData call setup_mudata(mdata, modalities={…}).")
        check_no_view(adata, "scapp.model.APP.setup_anndata")
        perturbation_key = label_column(adata, perturbation_key)
        control = control_label(adata, control, perturbation_key)
        layer = effects_layer(adata, control, layer)
        network_key, gene_features_key = _evidence_keys(adata, network_key, gene_features_key)
        _check(network_key, control, batch_key)
        setup_method_args = cls._get_setup_method_args(**locals())
        fields = [
            GenesField(GENES, None),
            *numbered(NETWORK, NetworkField, network_key),
            *numbered(FEATURES, GeneFeaturesField, gene_features_key),
            EffectsField(
                EFFECTS,
                perturbation_key,
                control=control,
                layer=layer,
                sep=sep,
                batch_key=batch_key,
                kind=kind,
            ),
        ]
        manager = AnnDataManager(fields=fields, setup_method_args=setup_method_args)
        with _undo_on_error(adata):
            manager.register_fields(adata, **kwargs)
        cls.register_manager(manager)

    @classmethod
    @checked(own=("mdata",))
    def setup_mudata(
        cls,
        mdata: MuData,
        *,
        perturbation_key: str = Key.obs.PERTURBATION,
        control: str | Sequence[str] | None = "control",
        layer: str | None = None,
        network_key: str | Sequence[str] | None = None,
        gene_features_key: str | Sequence[str] | None = None,
        sep: str = "+",
        batch_key: str | None = None,
        kind: str | None = None,
        modalities: Mapping[str, str | None] | None = None,
        **kwargs: Any,
    ) -> None:
        """Register a MuData, one of whose modalities holds the expression; see :meth:`setup_anndata`.

        Networks and gene features are read from the expression modality, and predictions are written into its layers.
        Labels and batches may be there, in another modality, or in ``mdata.obs``. All modalities must hold the same cells
        (``mudata.intersect_obs`` keeps only these).

        Adds only ``mdata.uns["_scvi_uuid"]`` and ``mdata.uns["_scvi_manager_uuid"]``.

        Parameters
        ----------
        mdata
            MuData with cells, including control cells, or effects in one modality.
        perturbation_key, control, layer, network_key, gene_features_key, sep, batch_key, kind
            As in :meth:`setup_anndata`.
        modalities
            The modality of each argument, as in scvi-tools. ``"layer"`` is required and names the modality of the
            expression. ``"perturbation_key"``, ``"batch_key"`` and ``"kind"`` may name another modality; if they are
            missing or None, their columns are looked up in ``mdata.obs``.
        **kwargs
            For scvi-tools.

        Raises
        ------
        ValueError
            As in :meth:`setup_anndata`, or if a modality is missing, is not named, or holds different cells.

        Examples
        --------
        >>> scapp.model.APP.setup_mudata(mdata, modalities={"layer": "rna", "perturbation_key": "rna"})
        >>> model = scapp.model.APP(mdata)
        """
        expression = _check_modalities(mdata, modalities)
        check_no_view(mdata, "scapp.model.APP.setup_mudata")
        of = mdata.mod[expression]
        perturbation_key = label_column(of, perturbation_key)
        control = control_label(of, control, perturbation_key)
        layer = effects_layer(of, control, layer)
        network_key, gene_features_key = _evidence_keys(of, network_key, gene_features_key)
        _check(network_key, control, batch_key)
        del of, expression
        setup_method_args = cls._get_setup_method_args(**locals())
        mod = cls._create_modalities_attr_dict(dict(modalities or {}), setup_method_args)
        expression = str((modalities or {})["layer"])
        options = {"control": control, "layer": layer, "sep": sep, "batch_key": batch_key, "kind": kind}
        columns = {perturbation_key: mod.perturbation_key}
        if batch_key is not None:
            columns[batch_key] = mod.batch_key
        if kind is not None and perturbation_type(kind) is None:
            columns[kind] = mod.kind
        fields = [
            MuDataGenesField(GENES, None, mod_key=expression),
            *numbered(NETWORK, partial(MuDataNetworkField, mod_key=expression), network_key),
            *numbered(FEATURES, partial(MuDataGeneFeaturesField, mod_key=expression), gene_features_key),
            MuDataEffectsField(EFFECTS, perturbation_key, mod_key=expression, columns_of=columns, **options),
        ]
        manager = AnnDataManager(fields=fields, setup_method_args=setup_method_args)
        with _undo_on_error(mdata):
            manager.register_fields(mdata, **kwargs)
        cls.register_manager(manager)


def _evidence_keys(
    adata: AnnData, network_key: str | Sequence[str] | None, gene_features_key: str | Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """Return the keys of networks and gene features: the given ones, or by default all that scapp added."""
    networks, features = _keys(network_key), _keys(gene_features_key)
    if network_key is None:
        networks = added_keys(adata, Key.uns.NETWORKS, adata.varp) or [Key.varp.NETWORK]
    if gene_features_key is None and network_key is None:
        features = added_keys(adata, Key.uns.GENE_FEATURES, adata.varm)
    return networks, features


def _keys(keys: str | Sequence[str] | None) -> list[str]:
    return [keys] if isinstance(keys, str) else list(keys or [])


def _check(networks: list[str], control: str | Sequence[str] | None, batch_key: str | None) -> None:
    if not networks:
        raise ValueError("APP needs at least one network: name it with network_key=….")
    if control is None and batch_key is not None:
        raise ValueError("batch_key needs the controls of each batch, but effects have no controls. Leave it out.")


def _check_modalities(mdata: MuData, modalities: Mapping[str, str | None] | None) -> str:
    """Return the expression modality; raise an error if the mapping does not fit the MuData."""
    if not isinstance(mdata, MuData):
        raise TypeError(f"Expected a MuData, found {type(mdata).__name__}; for an AnnData call setup_anndata.")
    named = {argument: name for argument, name in (modalities or {}).items() if name is not None}
    there = shorten(map(repr, mdata.mod), 10)
    if "layer" not in named:
        raise ValueError(
            f"Name the modality of the expression with modalities={{'layer': …}}; this MuData has {there}. Labels that "
            "are in a modality need their own entry: modalities={'layer': 'rna', 'perturbation_key': 'rna'}."
        )
    absent = {argument: name for argument, name in named.items() if name not in mdata.mod}
    if absent:
        raise ValueError(f"This MuData has no modality {shorten(map(repr, absent.values()))}; it has {there}.")
    expression = named["layer"]
    for argument in ("network_key", "gene_features_key"):
        if named.get(argument, expression) != expression:
            raise ValueError(
                f"{argument} must name a slot of the expression modality {expression!r}, whose genes it describes, found "
                f"modalities[{argument!r}]={named[argument]!r}."
            )
    return expression


@contextmanager
def _undo_on_error(adata: AnnData | MuData) -> Iterator[None]:
    """Undo what scvi-tools wrote into `uns` if registration fails, so that the AnnData is unchanged."""
    before = dict(adata.uns)
    try:
        yield
    except BaseException:
        for key in set(adata.uns) - set(before):
            del adata.uns[key]
        adata.uns.update(before)
        raise
