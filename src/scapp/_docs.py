"""Texts that many docstrings share, which stand once and are filled in."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping
from typing import TypeVar

Function = TypeVar("Function", bound=Callable[..., object])
_PLACEHOLDER = re.compile(r"^( *)\{(\w+)\}$", re.MULTILINE)


def documented(texts: Mapping[str, str]) -> Callable[[Function], Function]:
    """Return a decorator that replaces docstring lines such as ``{name}`` by texts, with the same indentation."""

    def fill(function: Function) -> Function:
        if function.__doc__:  # None under `python -OO`
            function.__doc__ = _PLACEHOLDER.sub(lambda line: textwrap.indent(texts[line[2]], line[1]), function.__doc__)
        return function

    return fill
