"""Shared by the tests of pictures of a benchmark: the planted references, and texts that lie over each other."""

from __future__ import annotations

import itertools

REFERENCES = {"norman_doubles": "additive", "k562_singles": "mean"}


def overlapping(texts, figure) -> list[tuple[str, str]]:
    """Pairs of texts that lie over each other as drawn."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in texts if t.get_text().strip() and t.get_visible()]
    return [(a, b) for (a, x), (b, y) in itertools.combinations(boxes, 2) if x.overlaps(y)]
