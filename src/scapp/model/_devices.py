"""On how many devices a model is trained: one, because its decoder is solved for all perturbations together."""

from __future__ import annotations


def check_one_device(devices: int | list[int] | str) -> None:
    """Raise if `devices`, as Lightning takes them, are several.

    Raises
    ------
    ValueError
        With the mend.
    """
    if isinstance(devices, str):  # "2" counts devices, "0,1" and "1," name them
        named = [name for name in devices.split(",") if name.strip()]
        several = len(named) > 1 or named == ["-1"] or ("," not in devices and devices not in ("auto", "0", "1"))
    elif isinstance(devices, int):
        several = devices != 1
    else:
        several = len(devices) != 1
    if several:
        raise ValueError(
            f"devices={devices!r}: APP trains on one device, as its closed form needs all perturbations together. Pass "
            "devices=1, or devices=[k] for the k-th graphics card. To try several settings at a time, see the "
            "hyper-parameter search in docs/scale.md."
        )
