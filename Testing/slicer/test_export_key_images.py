import io
import unittest

import numpy as np
from PIL import Image

from DALAnomalyLib.preprocessing.reorient import to_anatomical_order
from DALAnomalyLib.volume import Grid, Volume
from DALAnomalySlicer.export.anatomical_planes import AXIAL, CORONAL, PLANES, SAGITTAL, FieldOfView
from DALAnomalySlicer.export.key_images import key_images
from Testing.slicer.export_phantom import context_of, scan_with

RUNS_IN_SLICER = True

GRID = Grid((20, 30, 40), (5.0, 3.0, 2.0))
"""In anatomical order: k towards superior, j posterior, i left."""


def stored_otherwise(array: np.ndarray) -> Volume:
    """A volume on `GRID` as another scanner would store it: axes exchanged and turned, no voxel elsewhere."""
    turned = np.ascontiguousarray(array.transpose(2, 0, 1)[::-1, :, ::-1])
    directions = np.array([[0, 0, -1], [-1, 0, 0], [0, 1, 0]])  # columns: i is -posterior, j superior, k -left
    corner = GRID.index_to_physical([0, GRID.shape[1] - 1, GRID.shape[2] - 1])
    grid = Grid(turned.shape, (3.0, 2.0, 5.0), tuple(corner.tolist()), tuple(directions.ravel().tolist()))
    return Volume(turned, grid)


def pixels(image: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(image)) as opened:
        return np.asarray(opened)


class PlanesTest(unittest.TestCase):
    """A voxel at the right, anterior and superior corner of the grid shows which way every picture lies."""

    def setUp(self) -> None:
        array = np.zeros(GRID.shape, np.float32)
        array[-1, 0, 0] = 1
        self.volume = Volume(array, GRID)
        self.view = FieldOfView(((0, 20), (0, 30), (0, 40)), (2.0, 3.0, 5.0), pixels_per_mm=2.0)
        self.corner = np.array([19, 0, 0])

    def test_pictures_are_in_radiological_order(self):
        expected = {AXIAL: (0, 0), CORONAL: (0, 0), SAGITTAL: (0, 0)}
        for plane, place in expected.items():
            with self.subTest(plane.name):
                cut = self.view.cut(self.volume.array, self.corner, plane)
                assert np.argwhere(cut).tolist() == [list(place)]

    def test_letters_name_the_rims(self):
        assert AXIAL.letters == ("R", "L", "A", "P")
        assert CORONAL.letters == ("R", "L", "S", "I")
        assert SAGITTAL.letters == ("A", "P", "S", "I")

    def test_proportions_are_those_of_the_body(self):
        # 20 x 2 mm from head to foot, 30 x 3 mm from front to back, 40 x 5 mm from right to left, at 2 pixels per mm
        assert [self.view.size(plane) for plane in PLANES] == [(400, 180), (400, 80), (180, 80)]

    def test_point_is_the_middle_of_its_voxel(self):
        assert self.view.point(self.corner, AXIAL) == (5.0, 3.0)
        assert self.view.point(self.corner, CORONAL) == (5.0, 2.0)
        assert self.view.point(self.corner, SAGITTAL) == (3.0, 2.0)

    def test_storage_does_not_matter(self):
        other = to_anatomical_order(stored_otherwise(self.volume.array))
        np.testing.assert_array_equal(other.array, self.volume.array)
        assert other.grid.is_close(GRID)

    def test_view_shows_all_of_the_brain_with_a_margin(self):
        mask = np.zeros(GRID.shape, np.uint8)
        mask[8:12, 10:20, 15:25] = 1
        assert FieldOfView.around(Volume(mask, GRID), 1.0).spans == ((3, 17), (7, 23), (13, 27))

    def test_view_of_an_empty_mask_is_the_whole_grid(self):
        assert FieldOfView.around(self.volume.with_array(np.zeros(GRID.shape)), 1.0).spans == (
            (0, 20),
            (0, 30),
            (0, 40),
        )


def head() -> np.ndarray:
    """Something with an inside on `GRID`, brighter to the right."""
    array = np.zeros(GRID.shape, np.float32)
    array[3:17, 4:26, 5:35] = np.linspace(200, 100, 30)
    return array


def scored(*boxes: tuple[tuple[int, int], ...]) -> np.ndarray:
    """A score on `GRID`: 0.5 in each box, spans along (k, j, i)."""
    score = np.full(GRID.shape, 0.01, np.float32)
    for box in boxes:
        score[tuple(slice(*span) for span in box)] = 0.5
    return score


class KeyImagesTest(unittest.TestCase):
    def test_one_picture_per_finding_the_largest_first(self):
        boxes = [((4, 6), (6 + 3 * n, 8 + 3 * n), (8, 9 + n)) for n in range(6)]
        boxes += [((10, 12), (6, 8), (8, 20)), ((14, 16), (6, 8), (8, 11))]
        score = scored(*boxes)
        score[14:16, 6:8, 8:11] = 10  # small and very conspicuous: number 1, but not the first picture
        context = context_of(Volume(head(), GRID), [""] * 8, score=score)
        pictured = [picture.row for picture in key_images(context)]
        largest = sorted((row.volume_ml for row in context.rows), reverse=True)
        assert [row.volume_ml for row in pictured] == largest[:6]
        assert [row.number for row in pictured].index(1) > 0

    def test_dismissed_findings_have_no_picture(self):
        context = context_of(scan_with(), ("dismissed", ""))
        assert [picture.row.number for picture in key_images(context)] == [2]

    def test_scan_without_findings_shows_its_highest_score(self):
        score = np.full(GRID.shape, 0.01, np.float32)
        score[10, 12, 14] = 0.05
        (picture,) = key_images(context_of(Volume(head(), GRID), (), score=score))
        assert picture.row is None
        assert picture.centre_ras == (-70.0, -36.0, 20.0)

    def test_planes_meet_inside_the_finding(self):
        ring = [((9, 11), (8, 20), (10, 12)), ((9, 11), (8, 20), (28, 30)), ((9, 11), (8, 10), (10, 30))]
        context = context_of(Volume(head(), GRID), ("",), score=scored(*ring))
        (picture,) = key_images(context)
        x, y, z = picture.centre_ras
        k, j, i = np.rint(GRID.physical_to_index([-x, -y, z])).astype(int)
        assert context.labels.array[k, j, i] == 1

    def test_storage_of_the_scan_does_not_change_the_picture(self):
        def picture(stored):
            arrays = {"brain_mask": (head() > 0).astype(np.uint8), "pseudo_healthy": 0.5 * head()}
            changes = {name: stored(array).array for name, array in arrays.items()}
            score = stored(scored(((6, 9), (8, 12), (8, 14)))).array
            (image,) = key_images(context_of(stored(head()), ("",), score=score, **changes))
            return pixels(image.png)

        np.testing.assert_array_equal(picture(lambda array: Volume(array, GRID)), picture(stored_otherwise))

    def test_score_is_coloured_over_the_input_alone(self):
        scan = Volume(head(), GRID)
        (picture,) = key_images(context_of(scan, ("",), score=scored(((4, 16), (6, 22), (8, 18)))))
        page = pixels(picture.png).astype(int)
        coloured = np.flatnonzero((page[..., 0] - page[..., 2] > 60).any(axis=0))
        assert coloured.min() > 0.55 * page.shape[1]  # where the third column begins; the bar of colours follows
