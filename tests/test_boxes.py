"""Boxes: IoU in pixels, which can be used, which of several is chosen, and the one that is made from a map."""

import math
import random

import numpy as np
import pytest
import torch
from data_files import noise
from PIL import Image

from tcl.data.boxes import box_problem
from tcl.evaluation.box_choice import box_of_map, box_scores, enlarge, locate
from tcl.evaluation.box_overlap import holds, iou
from tcl.evaluation.overlay import draw_box, draw_point


def pixels(box: tuple[int, int, int, int]) -> set[tuple[int, int]]:
    x, y, w, h = box
    return {(column, row) for column in range(x, x + w) for row in range(y, y + h)}


def test_iou_counts_pixels():
    """Of whole boxes that share more than a row and a column of them."""
    rng, counted = random.Random(0), 0
    for _ in range(300):
        one, other = (tuple(rng.randint(*span) for span in ((-3, 6), (-3, 6), (1, 9), (1, 9))) for _ in range(2))
        common, together = pixels(one) & pixels(other), pixels(one) | pixels(other)
        if len({column for column, _ in common}) > 1 and len({row for _, row in common}) > 1:
            assert iou(one, other) == pytest.approx(len(common) / len(together))
            counted += 1
        else:
            assert iou(one, other) == 0
        assert iou(one, other) == iou(other, one)
    assert counted > 50


def test_iou_of_fractions():
    # right edges at 9 and 11.5, so the boxes share 9 - 2.5 + 1 = 7.5 columns, and 10 rows
    assert iou((0, 0, 10, 10), (2.5, 0, 10, 10)) == pytest.approx(75 / 125)


def test_a_point_on_the_right_or_lower_edge_is_outside():
    box = (2, 3, 4, 5)
    assert holds(box, 2, 3) and holds(box, 5.9, 7.9)
    assert not any(holds(box, x, y) for x, y in ((6, 4), (4, 8), (1.9, 4), (4, 2.9)))


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        ([1, 2, 3, 4], None),
        ((-5, -5, 6, 6.5), None),  # it reaches over the border
        ([19.5, 0, 100, 100], None),
        ([0, 0, 0, 4], "box of no area"),
        ([0, 0, 3, -1], "box of no area"),
        ([20, 0, 5, 5], "box outside of the image"),
        ([0, 10, 5, 5], "box outside of the image"),
        ([-5, 0, 5, 5], "box outside of the image"),
        ([0, -6, 5, 5], "box outside of the image"),
        ([0, 0, 5], "box is not four numbers: x, y, width, height"),
        ([0, 0, 5, math.nan], "box is not four numbers: x, y, width, height"),
        ([0, 0, 5, math.inf], "box is not four numbers: x, y, width, height"),
        ([0, 0, 5, 10**400], "box is not four numbers: x, y, width, height"),
        ([0, 0, 5, True], "box is not four numbers: x, y, width, height"),
        ([0, 0, 5, "5"], "box is not four numbers: x, y, width, height"),
        ("abcd", "box is not four numbers: x, y, width, height"),
        (None, "box is not four numbers: x, y, width, height"),
    ],
)
def test_which_boxes_can_be_used(box, problem):
    assert box_problem(box, height=10, width=20) == problem


def test_scores_are_sums_over_whole_pixels_over_the_root_of_the_whole_area():
    heat = torch.rand(7, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    boxes = [(0.9, 1.2, 3.3, 2.9), (-2.5, -1.0, 5.0, 4.0), (6.0, 5.0, 10.0, 10.0), (0.0, 0.0, 9.0, 7.0)]
    for (x, y, w, h), found in zip(boxes, box_scores(heat, boxes), strict=True):
        total = 0.0
        for row in range(7):
            for column in range(9):
                if int(y) <= row < int(y + h) and int(x) <= column < int(x + w):
                    total += float(heat[row, column])
        assert float(found) == pytest.approx(total / math.sqrt(w * h))


def test_the_first_of_equal_proposals_is_chosen():
    heat = torch.ones(2, 2)
    found = locate(heat, 8, 8, [(0, 0, 4, 4), (4, 4, 4, 4), (4, 0, 4, 4)])
    assert found.proposal == 0 and not found.blank
    assert found.score == pytest.approx(16 / 4)


@pytest.mark.parametrize("heat", [torch.zeros(2, 3), torch.full((2, 3), -1.0)])
def test_a_map_without_a_positive_score_takes_the_largest_proposal_and_says_so(heat):
    found = locate(heat, 10, 20, [(0, 0, 3, 3), (1, 1, 8, 8), (5, 2, 8, 8)])
    assert found.blank and found.proposal == 1 and found.box == (1, 1, 8, 8) and found.point is None
    alone = locate(heat, 10, 20)
    assert alone.blank and alone.box == (0, 0, 20, 10) and alone.proposal is None


def test_a_map_that_no_proposal_holds_has_a_point_nevertheless():
    heat = torch.zeros(4, 4)
    heat[3, 0] = 1
    found = locate(heat, 40, 80, [(60, 0, 20, 10)])
    assert found.blank and found.proposal == 0 and found.point == (10, 35)


def test_the_point_is_the_middle_of_the_highest_patch():
    heat = torch.tensor([[0.1, 0.3, 0.2], [0.0, 0.3, 0.1]])
    assert locate(heat, 10, 60).point == (30, 2.5)


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (6, 4)])
def test_the_box_of_a_map_is_the_best_of_all_rectangles(shape):
    rows, columns = shape
    generator = torch.Generator().manual_seed(rows)
    for _ in range(5):
        heat = torch.rand(rows, columns, generator=generator) ** 4
        best = (-1.0, None)
        for top in range(rows):
            for bottom in range(top + 1, rows + 1):
                for left in range(columns):
                    for right in range(left + 1, columns + 1):
                        # patches of 30 x 20 pixels
                        mass = float(heat[top:bottom, left:right].sum()) * 600
                        score = mass / math.sqrt((bottom - top) * 20 * (right - left) * 30)
                        box = (left * 30, top * 20, (right - left) * 30, (bottom - top) * 20)
                        best = max(best, (score, box))
        box, score = box_of_map(heat, rows * 20, columns * 30)
        assert score == pytest.approx(best[0]) and box == pytest.approx(best[1])


def test_enlarging_is_cubic_convolution():
    """Of four times four neighbours, those beyond the border being the last ones (Keys 1981, a = -0.75)."""

    def weight(distance: float, a: float = -0.75) -> float:
        d = abs(distance)
        if d <= 1:
            return (a + 2) * d**3 - (a + 3) * d**2 + 1
        return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0

    heat = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    found = enlarge(heat, 7, 10)
    for i in range(7):
        for j in range(10):
            row, column, value = (i + 0.5) * 3 / 7 - 0.5, (j + 0.5) * 4 / 10 - 0.5, 0.0
            for r in range(math.floor(row) - 1, math.floor(row) + 3):
                for c in range(math.floor(column) - 1, math.floor(column) + 3):
                    here = float(heat[min(max(r, 0), 2), min(max(c, 0), 3)])
                    value += weight(row - r) * weight(column - c) * here
            assert float(found[i, j]) == pytest.approx(value, abs=1e-5)


def test_boxes_are_drawn_where_they_are():
    image = Image.new("RGB", (40, 20))
    draw_box(image, (100, 40, 200, 80), (200, 400), "#ffffff", line=1)  # of an image ten times as large
    drawn = np.asarray(image).any(axis=2)
    expected = np.zeros((20, 40), bool)
    expected[4:12, 10:30] = True
    expected[5:11, 11:29] = False
    np.testing.assert_array_equal(drawn, expected)


def test_what_reaches_over_the_border_is_drawn_on_it():
    image = noise(0, (40, 20))
    draw_box(image, (-50.0, -1e9, 1e9, 2e9), (20, 40), "#ff0000", line=1)
    draw_point(image, (39.5, 0.5), (20, 40), "#00ff00")
    assert image.getpixel((0, 10)) == (255, 0, 0) and image.getpixel((39, 15)) == (255, 0, 0)
