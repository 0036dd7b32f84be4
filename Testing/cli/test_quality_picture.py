from __future__ import annotations

import sys
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the picture is drawn by matplotlib (extra cli)")

from matplotlib.image import imread

from DALAnomalyCLI import quality_picture
from DALAnomalyCLI.quality_picture import QualityPicture, write_quality_picture
from DALAnomalyLib.errors import InputError
from DALAnomalyLib.rigid_transform import RigidTransform
from DALAnomalyLib.volume import Grid, Points, Volume

SHAPE = (36, 44, 38)
UPRIGHT = Grid(SHAPE, (5.0, 5.0, 5.0), (-90.0, -105.0, -85.0))
SHIFT = RigidTransform(translation=(40.0, -30.0, 25.0))
ACCENT = np.array([0x35, 0xE0, 0xD0]) / 255


def positions(grid: Grid) -> Points:
    return grid.index_to_physical(np.moveaxis(np.indices(grid.shape), 0, -1))


def ball(grid: Grid, radius: float, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    return np.linalg.norm(positions(grid) - np.array(centre), axis=-1) <= radius


def make_data(grid: Grid = UPRIGHT) -> QualityPicture:
    """A head with skull around a ball of brain, brighter to the left, and an atlas 50 mm away from it."""
    brain = ball(grid, 62.0)
    head = np.where(ball(grid, 80.0) & ~ball(grid, 72.0), 300.0, np.where(brain, 100.0, 5.0))
    field = np.exp(positions(grid)[..., 0] / 400)
    scan = Volume((head * field).astype(np.float32), grid)
    atlas_grid = SHIFT.move_grid(UPRIGHT)
    atlas = Volume(ball(atlas_grid, 62.0, SHIFT.translation).astype(np.float32) * 0.7, atlas_grid)
    values = scan.array[brain]
    return QualityPicture(
        name="a $5 scan.nii.gz",
        scan=scan,
        corrected=scan.with_array(head.astype(np.float32)),
        brain=scan.with_array(brain.astype(np.uint8)),
        moved_scan=SHIFT.move(scan),
        atlas_image=atlas,
        before=values,
        after=values / values.max(),
        lines=("brain: outlined by the network", "bias field: strength 0.2"),
        warnings=("something is odd " * 30,),
    )


def draw(tmp_path: Path, data: QualityPicture) -> np.ndarray:
    write_quality_picture(tmp_path / "qc.png", data)
    return imread(tmp_path / "qc.png")[..., :3]


def accent(picture: np.ndarray) -> np.ndarray:
    return np.linalg.norm(picture - ACCENT, axis=-1) < 0.15


def test_picture_holds_outlines_squares_field_and_histograms(tmp_path: Path) -> None:
    picture = draw(tmp_path, make_data())
    height, width = picture.shape[:2]
    assert width == quality_picture._WIDTH * quality_picture._DPI
    upper, lower = picture[: height // 2], picture[height // 2 :]
    assert accent(upper).sum() > 2000, "seven outlines"
    amber = (picture[..., 0] - picture[..., 2]) > 0.25
    assert amber[height // 3 :, : width // 2].sum() > 5000, "squares of the atlas"
    assert accent(lower[:, width * 2 // 3 :]).sum() > 200, "landmarks"


def test_outline_is_where_the_brain_ends() -> None:
    data = make_data()
    for plane in quality_picture._slices(data):
        inside = quality_picture.sample(data.brain.with_array(data.brain.array.astype(np.float32)), plane) > 0.5
        radius = np.linalg.norm(plane.points, axis=-1)
        assert radius[inside].max() < 66
        assert radius[~inside].min() > 56


def test_slices_are_three_axial_two_coronal_two_sagittal_and_show_the_skull() -> None:
    data = make_data()
    planes = quality_picture._slices(data)
    assert [plane.name for plane in planes] == ["axial"] * 3 + ["coronal"] * 2 + ["sagittal"] * 2
    assert len({plane.position for plane in planes}) == 7
    assert min(min(plane.size) for plane in planes) > 2 * 80
    bare = replace(data, scan=data.scan.with_array(data.scan.array * data.brain.array))
    assert max(max(plane.size) for plane in quality_picture._slices(bare)) < 2 * 72


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_order_of_the_axes_in_the_file_does_not_show(order: tuple[int, int, int]) -> None:
    rotation = np.eye(3)[:, order]
    size = np.array(SHAPE[::-1])[list(order)]
    grid = Grid(tuple(size[::-1].tolist()), (5.0, 5.0, 5.0), UPRIGHT.origin, tuple(rotation.ravel().tolist()))
    data, other = make_data(), make_data(grid)
    for expected, plane in zip(quality_picture._slices(data), quality_picture._slices(other), strict=True):
        np.testing.assert_allclose(plane.points, expected.points, atol=5.1)
        assert plane.letters == expected.letters
        np.testing.assert_allclose(
            quality_picture.sample(other.scan, expected),
            quality_picture.sample(data.scan, expected),
            rtol=1e-4,
            atol=0.01,
        )


def test_scan_is_compared_where_the_registration_puts_it(tmp_path: Path) -> None:
    """With the right header scan and atlas overlap; without it amber squares show beside the outline."""
    data = make_data()
    good = draw(tmp_path, data)
    bad = draw(tmp_path, replace(data, moved_scan=data.scan))
    assert bad.shape != good.shape or np.abs(bad - good).max() > 0.5


def test_squares_have_their_size_in_millimetres() -> None:
    plane = quality_picture._slices(make_data())[0]
    squares = quality_picture._squares(plane)
    runs = np.diff(np.flatnonzero(np.diff(squares[0].astype(int))))
    step = plane.size[1] / squares.shape[1]
    np.testing.assert_allclose(runs * step, quality_picture._SQUARE_MM, atol=1.5)
    assert squares[0, 0] != squares[0, -1] or squares.mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("left_out", ["registration", "all"])
def test_whatever_was_skipped_is_left_out(tmp_path: Path, left_out: str) -> None:
    data = make_data()
    changes = {
        "registration": {"moved_scan": None, "atlas_image": None},
        "field": {"corrected": None},
        "values": {"before": np.array([]), "after": np.array([])},
        "texts": {"lines": (), "warnings": ()},
    }
    chosen = changes.values() if left_out == "all" else [changes[left_out]]
    for change in chosen:
        data = replace(data, **change)
    picture = draw(tmp_path, data)
    assert picture.std() > 0.05


def test_negative_zero_and_constant_intensities_are_drawn(tmp_path: Path) -> None:
    data = make_data()
    array = data.scan.array.copy()
    array[20, 20] = -30
    array[21, 20] = 0
    flat = np.full(50, 3.0)
    scan = data.scan.with_array(array)
    draw(tmp_path, replace(data, scan=scan, corrected=scan.with_array(array / 2), before=flat, after=flat))


def test_empty_mask_is_refused(tmp_path: Path) -> None:
    data = make_data()
    empty = data.brain.with_array(np.zeros(SHAPE, np.uint8))
    with pytest.raises(InputError, match="empty"):
        write_quality_picture(tmp_path / "qc.png", replace(data, brain=empty))


def test_picture_needs_no_display_and_leaves_the_users_matplotlib_alone(tmp_path: Path) -> None:
    before = "matplotlib.pyplot" in sys.modules
    write_quality_picture(tmp_path / "qc.png", make_data())
    assert ("matplotlib.pyplot" in sys.modules) == before
