from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the picture is drawn by matplotlib (extra cli)")

from matplotlib.image import imread

from DALAnomalyCLI import overview
from DALAnomalyLib.detector import Detection
from DALAnomalyLib.findings import find_findings
from DALAnomalyLib.volume import Grid, Points, Volume

SHAPE = (30, 36, 26)  # (k, j, i), 5 mm: 150 x 180 x 130 mm
UPRIGHT = Grid(SHAPE, (5.0, 5.0, 5.0), (-60.0, -90.0, -70.0))
# LPS mm, left, front and top of the brain's middle, and a smaller one right, behind and below.
LESION, SMALL_LESION = (30.0, -40.0, 35.0), (-30.0, 30.0, -20.0)


def positions(grid: Grid) -> Points:
    return grid.index_to_physical(np.moveaxis(np.indices(grid.shape), 0, -1))


def ball(grid: Grid, centre: tuple[float, float, float], radius: float) -> np.ndarray:
    return np.linalg.norm(positions(grid) - np.array(centre), axis=-1) <= radius


def make_detection(grid: Grid, threshold: float = 0.5) -> tuple[Volume, Detection]:
    """A ball of brain with a large lesion of score 1 and a small one of score 2, seen from any grid."""
    brain = ball(grid, (0.0, 0.0, 0.0), 62.0)
    score = (ball(grid, LESION, 16.0) * 1.0 + ball(grid, SMALL_LESION, 9.0) * 2.0).astype(np.float32)
    scan = Volume((brain * 100 + score * 80).astype(np.float32), grid)
    mask = scan.with_array(brain.astype(np.uint8))
    labels, findings = find_findings(scan.with_array(score), mask, threshold, 0.0)
    return scan, Detection(
        score=scan.with_array(score),
        pseudo_healthy=scan.with_array((brain * 100).astype(np.float32)),
        tissues=scan.with_array((brain * 2).astype(np.uint8)),
        edges=scan.with_array(brain.astype(np.uint8)),
        brain_mask=mask,
        findings_mask=labels,
        findings=findings,
        modality_vector=np.zeros(4, np.float32),
        sequence="T2",
        sequence_evidence="given",
        threshold=threshold,
        provenance={},
        warnings=(),
    )


def reordered(order: tuple[int, int, int], flips: tuple[int, int, int]) -> Grid:
    """The upright grid with its index axes permuted and flipped; voxels lie where they were."""
    rotation = np.eye(3)[:, order] * flips
    size = np.array(SHAPE[::-1])[list(order)]
    corner = np.where(np.array(flips) < 0, (size - 1) * 5.0, 0.0)
    origin = np.array(UPRIGHT.origin) - rotation @ corner
    return Grid(tuple(size[::-1].tolist()), (5.0, 5.0, 5.0), tuple(origin.tolist()), tuple(rotation.ravel().tolist()))


def test_slices_go_through_the_largest_finding_not_the_brightest() -> None:
    _, detection = make_detection(UPRIGHT)
    assert len(detection.findings) == 2
    np.testing.assert_allclose(overview.focus_point(detection), LESION, atol=5)


def test_point_lies_inside_a_finding_that_is_not_convex() -> None:
    scan, detection = make_detection(UPRIGHT)
    ring = (ball(UPRIGHT, (0.0, 0.0, 0.0), 45.0) & ~ball(UPRIGHT, (0.0, 0.0, 0.0), 35.0)).astype(np.float32)
    labels, findings = find_findings(scan.with_array(ring), detection.brain_mask, 0.5, 0.0)
    point = overview.focus_point(replace(detection, findings=findings, findings_mask=labels))
    index = tuple(np.rint(UPRIGHT.physical_to_index(point)).astype(int))
    assert labels.array[index] == 1


def test_without_findings_slices_go_through_the_highest_score() -> None:
    _, detection = make_detection(UPRIGHT, threshold=9.0)
    assert detection.findings == ()
    point = overview.focus_point(detection)
    assert np.linalg.norm(point - np.array(SMALL_LESION)) <= 9.0


def test_pictures_are_radiological() -> None:
    scan, detection = make_detection(UPRIGHT)
    axial, coronal, sagittal = overview.planes_through(np.array(LESION), detection.brain_mask)
    # LPS of the pixels at the left, right, top and bottom of each picture, as the letters claim
    for plane in (axial, coronal, sagittal):
        rows, columns = plane.points.shape[:2]
        ends = (
            plane.points[rows // 2, 0],
            plane.points[rows // 2, -1],
            plane.points[0, columns // 2],
            plane.points[-1, 0],
        )
        for letter, place in zip(plane.letters, ends, strict=True):
            axis, sign = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}[letter]
            assert place[axis] * sign > 50, f"{plane.name}: {letter}"
    # the lesion is at the patient's left, in front: right upper quarter of an axial picture
    image = overview.sample(scan, axial)
    row, column = np.unravel_index(np.argmax(image), image.shape)
    assert row < image.shape[0] / 2
    assert column > image.shape[1] / 2


@pytest.mark.parametrize("flips", list(product((1, -1), repeat=3)))
@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_order_of_the_axes_in_the_file_does_not_show(order: tuple[int, int, int], flips: tuple[int, int, int]) -> None:
    scan, detection = make_detection(UPRIGHT)
    other_scan, other = make_detection(reordered(order, flips))
    np.testing.assert_allclose(overview.focus_point(other), overview.focus_point(detection), atol=1e-6)
    planes = overview.planes_through(overview.focus_point(detection), detection.brain_mask)
    for expected, plane in zip(
        planes, overview.planes_through(overview.focus_point(other), other.brain_mask), strict=True
    ):
        np.testing.assert_allclose(plane.points, expected.points, atol=1e-6)
        np.testing.assert_allclose(
            overview.sample(other_scan, plane), overview.sample(scan, expected), rtol=1e-5, atol=1e-3
        )


def test_proportions_are_those_of_the_head_also_for_thick_slices() -> None:
    thick = Grid((12, 36, 26), (5.0, 5.0, 12.5), UPRIGHT.origin)
    _, detection = make_detection(thick)
    for plane in overview.planes_through(np.zeros(3), detection.brain_mask):
        brain = overview.sample(detection.brain_mask, plane) > 0.5
        rows, columns = np.flatnonzero(brain.any(axis=1)), np.flatnonzero(brain.any(axis=0))
        height = np.ptp(rows) / brain.shape[0] * plane.size[0]
        width = np.ptp(columns) / brain.shape[1] * plane.size[1]
        assert abs(height - width) <= 12.5, f"{plane.name} shows a ball as {width:.0f} x {height:.0f} mm"


def test_sampling_is_zero_outside_the_volume_and_keeps_labels_whole() -> None:
    _, detection = make_detection(UPRIGHT)
    (plane, *_) = overview.planes_through(np.array([0.0, 0.0, 0.0]), detection.brain_mask)
    tissues = overview.sample(detection.tissues, plane, nearest=True)
    assert set(np.unique(tissues)) == {0.0, 2.0}
    far = replace(plane, points=plane.points + 1000)
    assert not overview.sample(detection.tissues, far).any()


@pytest.mark.parametrize("threshold", [0.5, 9.0])
def test_picture_shows_score_and_findings_in_colour(tmp_path: Path, threshold: float) -> None:
    scan, detection = make_detection(UPRIGHT, threshold)
    overview.write_overview(tmp_path / "overview.png", scan, detection, "scan.nii.gz")
    picture = imread(tmp_path / "overview.png")[..., :3]
    height, width = picture.shape[:2]
    assert width > 1.5 * height > 900
    spread = np.ptp(picture, axis=-1)
    tile = width // 7
    assert spread[height // 5 :, :tile].mean() < 0.02, "the input column is grey"
    accent = np.linalg.norm(picture - np.array([0x35, 0xE0, 0xD0]) / 255, axis=-1) < 0.1
    contour = accent[height // 6 : height * 9 // 10, width * 5 // 6 - tile // 2 : width * 9 // 10].sum()
    assert (contour > 200) == bool(detection.findings), "an outline where there is a finding and only there"


def test_picture_needs_no_display_and_leaves_the_users_matplotlib_alone(tmp_path: Path) -> None:
    import sys

    scan, detection = make_detection(UPRIGHT)
    before = "matplotlib.pyplot" in sys.modules
    overview.write_overview(tmp_path / "overview.png", scan, detection, "scan.nii.gz")
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_dollar_signs_in_a_name_are_no_formula(tmp_path: Path) -> None:
    scan, detection = make_detection(Grid((24, 28, 30), (4.0, 4.0, 4.0)))
    overview.write_overview(tmp_path / "overview.png", scan, detection, "x$_$y")
    assert imread(tmp_path / "overview.png").ndim == 3
