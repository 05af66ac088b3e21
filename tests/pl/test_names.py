"""Names beside points."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from scapp.pl._figure import _crosses, name_points


@pytest.mark.parametrize("seed", range(4))
def test_names_of_crowded_points_lie_over_no_other_name_and_inside_the_axes(overlapping, seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(300, 2)) * [1, 0.2]
    ax = plt.subplots(figsize=(3.5, 3.5), layout="constrained")[1]
    ax.scatter(*points.T)
    names = [f"GENE{i}" for i in range(25)]
    texts = name_points(ax, points[:25], names, others=points)
    assert [text.get_text() for text in texts] == names
    assert not overlapping(texts)
    frame = ax.get_window_extent()
    boxes = [plt.Text.get_window_extent(text) for text in texts]
    assert all(frame.x0 <= b.x0 and b.x1 <= frame.x1 and frame.y0 <= b.y0 and b.y1 <= frame.y1 for b in boxes)


def test_names_of_points_at_one_place_are_apart(overlapping):
    points = np.zeros((12, 2))
    ax = plt.subplots(figsize=(3.5, 3.5), layout="constrained")[1]
    ax.set(xlim=(-1, 1), ylim=(-1, 1))
    assert not overlapping(name_points(ax, points, [f"GENE{i}" for i in range(12)], others=points))


def test_a_lonely_point_has_its_name_at_once_beside_it():
    ax = plt.subplots(figsize=(3.5, 3.5))[1]
    ax.set(xlim=(-1, 1), ylim=(-1, 1))
    (text,) = name_points(ax, np.array([[0.0, 0.0]]), ["KLF1"], others=np.array([[0.0, 0.0]]))
    assert np.hypot(*text.get_position()) < 25  # points


def test_names_stay_where_they_are_when_the_picture_is_saved_larger(tmp_path, overlapping):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(30, 2))
    figure, ax = plt.subplots(figsize=(3.5, 3.5), layout="constrained")
    ax.scatter(*points.T)
    texts = name_points(ax, points[:20], [f"GENE{i}" for i in range(20)], others=points)
    figure.savefig(tmp_path / "p.png", dpi=300)
    assert not overlapping(texts)


def test_lines_that_pass_through_boxes_are_found():
    low, high = np.array([1.0, 1.0]), np.array([2.0, 2.0])
    start = np.array([0.0, 0.0])
    ends = np.array([[3.0, 3.0], [3.0, 0.0], [0.0, 3.0], [0.5, 0.5], [1.5, 1.5], [3.0, 2.0]])
    assert _crosses(start, ends, low, high).tolist() == [True, False, False, False, True, True]
    level = np.array([[0.0, 1.5], [3.0, 1.5]])
    assert _crosses(level[0], level[1], low, high)
    assert not _crosses(level[0] + [0, 2], level[1] + [0, 2], low, high)
