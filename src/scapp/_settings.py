"""Settings: how much scapp says."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Loggers that report what was read and added, network by network.
READERS = ("scapp.pp", "scapp.resources", "scapp._annotations", "scapp._edges", "scapp._gene_names")
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Settings:
    """Settings of scapp.

    Examples
    --------
    >>> scapp.settings.verbosity = "info"  # the default; with "error" there are no messages, warnings or progress bars
    """

    def __init__(self) -> None:
        self._verbosity = logging.INFO

    @property
    def verbosity(self) -> int:
        """Level of :mod:`logging` from which messages are shown; set as a number or as ``"info"``, ``"warning"``, ``"error"``.

        At :obj:`logging.ERROR` there are no warnings and no progress bars either. ``scvi.settings.verbosity`` is followed where it
        asks for less.
        """
        scvi = logging.getLogger("scvi").level if "scvi" in sys.modules else logging.NOTSET
        return max(self._verbosity, scvi)

    @verbosity.setter
    def verbosity(self, level: int | str) -> None:
        named = LEVELS.get(level.lower()) if isinstance(level, str) else level
        if not isinstance(named, int) or isinstance(named, bool) or named < 0:
            raise ValueError(f"verbosity must be a level of logging or one of {', '.join(LEVELS)}, found {level!r}.")
        self._verbosity = named
        logging.getLogger("scapp").setLevel(named)

    @property
    def is_silent(self) -> bool:
        """Tell whether only errors are wanted."""
        return self.verbosity >= logging.ERROR

    def __repr__(self) -> str:
        return f"scapp.settings: verbosity={logging.getLevelName(self.verbosity)}"


settings = Settings()


@contextmanager
def hushed(*loggers: str) -> Iterator[None]:
    """Keep messages of other libraries below the level of warnings out of the output."""
    found = [logging.getLogger(name) for name in loggers]
    before = [logger.level for logger in found]
    for logger in found:
        logger.setLevel(max(logger.level, logging.WARNING))
    try:
        yield
    finally:
        for logger, level in zip(found, before, strict=True):
            logger.setLevel(level)
