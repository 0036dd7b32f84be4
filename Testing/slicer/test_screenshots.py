"""What the screenshots show is true, and the documents name screenshots that are there."""

import json
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
from PIL import Image

from DALAnomalySlicer.colour_tables import HEAT
from Testing.screenshots.directions import RimLetters, rim_letters, slice_position
from Testing.screenshots.page import BAR, GAP, Frame, grid, save

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "Resources" / "Screenshots"
BYTES = 1_500_000

GREY = 127  # 100 in a window from 0 to 200
CYAN = (0.1, 0.9, 0.95)
WHITE = 190
BOX = Image.Resampling.BOX


class DirectionsTest(unittest.TestCase):
    def test_letters_of_radiological_views(self) -> None:
        axial = np.diag([-1.0, 1.0, 1.0, 1.0])  # to the right of the picture is the patient's left, upwards anterior
        self.assertEqual(rim_letters(axial), RimLetters(left="R", right="L", top="A", bottom="P"))
        sagittal = np.zeros((4, 4))
        sagittal[1, 0], sagittal[2, 1] = -0.4, 0.4
        self.assertEqual(rim_letters(sagittal), RimLetters(left="A", right="P", top="S", bottom="I"))

    def test_letters_name_the_nearest_direction_of_oblique_views(self) -> None:
        cosine, sine = np.cos(np.radians(40)), np.sin(np.radians(40))
        oblique = np.array([[-cosine, sine, 0, 0], [sine, cosine, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
        self.assertEqual(rim_letters(oblique).left, "R")
        self.assertEqual(rim_letters(oblique[[1, 0, 2, 3]]).left, "A")

    def test_position_is_on_the_side_that_its_letter_says(self) -> None:
        slice_to_ras = np.eye(4)
        slice_to_ras[:3, 3] = (5, 6, -7.25)
        self.assertEqual(slice_position(slice_to_ras), "I: 7.25mm")
        coronal = slice_to_ras[:, [0, 2, 1, 3]]
        self.assertEqual(slice_position(coronal), "A: 6.00mm")
        coronal[:3, 2] *= -1  # the slice is where it is, whichever way its normal points
        self.assertEqual(slice_position(coronal), "A: 6.00mm")


class PageTest(unittest.TestCase):
    def frame(self, share: float | None = 0.5) -> np.ndarray:
        view = np.full((40, 300, 3), 7, np.uint8)
        return np.asarray(Frame(view, (1.0, 0.0, 0.0), "R", "S: 1.00mm", share).image())

    def test_bar_lies_above_the_view(self) -> None:
        image = self.frame()
        self.assertEqual(image.shape, (40 + BAR, 300, 3))
        self.assertEqual(tuple(image[1, 1]), (255, 0, 0))
        self.assertTrue((image[BAR:] == 7).all())

    def test_slider_moves_with_the_slice_and_leaves_the_text_free(self) -> None:
        without = self.frame(share=None)
        handles = []
        for share in (0.0, 0.5, 1.0):
            columns = np.nonzero((self.frame(share) != without).any(axis=(0, 2)))[0]
            text = np.nonzero((without[:BAR] != (255, 0, 0)).any(axis=(0, 2)))[0]
            self.assertFalse(set(columns) & set(text))
            handles.append(np.nonzero((self.frame(share)[BAR // 2 - 5] != without[BAR // 2 - 5]).any(axis=1))[0].mean())
        self.assertEqual(handles, sorted(set(handles)))

    def test_grid_and_file(self) -> None:
        red, blue = (Image.new("RGB", (30, 20), colour) for colour in ("red", "blue"))
        image = grid([[red, blue], [blue, red]])
        self.assertEqual(image.size, (60 + GAP, 40 + GAP))
        corners = [image.getpixel(place) for place in ((0, 0), (59 + GAP, 0), (0, 39 + GAP), (59 + GAP, 39 + GAP))]
        self.assertEqual(corners, [(255, 0, 0), (0, 0, 255), (0, 0, 255), (255, 0, 0)])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "new", "picture.png")
            save(image, path)
            with Image.open(path) as written:
                self.assertTrue((np.asarray(written.convert("RGB")) == np.asarray(image)).all())


@unittest.skipUnless("slicer_standin" in sys.modules, "Slicer draws views of its own")
class DrawnViewsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        script = Path(__file__).with_name("drawn_views.py")
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, str(script), folder]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
            if done.returncode < 0:
                raise unittest.SkipTest(f"drawing without a window (EGL) ended with signal {-done.returncode}")
            if done.returncode:
                raise AssertionError(done.stderr)
            cls.facts = json.loads(done.stdout.splitlines()[-1])
            if cls.facts is None:
                raise unittest.SkipTest("needs OpenGL without a window (EGL)")
            cls.pictures = {path.stem: _rgb(path) for path in Path(folder).glob("*.png")}

    def test_heatmap_lies_on_the_lesion_and_only_there(self) -> None:
        for name, facts in self.facts.items():
            with self.subTest(view=name):
                red, green, blue = self.pixel(name, facts["inside"], beside=8).tolist()
                self.assertGreater(min(red, green) - blue, 20)
                self.assertGreater(green, GREY + 20)
                outside = self.pixel(name, facts["outside"], beside=8)
                self.assertLessEqual(np.abs(outside - GREY).max(), 1)

    def test_the_patients_right_is_at_the_left(self) -> None:
        for name in ("Red", "Green"):
            middle = self.pictures[name].shape[1] / 2
            self.assertLess(self.facts[name]["inside"][0], middle)
            self.assertLess(_outline(self.pictures[name])[1].max(), middle)

    def test_letters_stand_at_the_sides_that_they_name(self) -> None:
        right, left = self.glyph("Red", "left"), self.glyph("Red", "right")
        self.assertGreater(right.sum(), left.sum())  # an R has more ink than an L
        anterior, superior = self.glyph("Red", "top"), self.glyph("Green", "top")
        expected = {
            ("Green", "left"): right,
            ("Green", "right"): left,
            ("Yellow", "left"): anterior,
            ("Yellow", "right"): self.glyph("Red", "bottom"),
            ("Yellow", "top"): superior,
            ("Yellow", "bottom"): self.glyph("Green", "bottom"),
        }
        for (name, side), glyph in expected.items():
            with self.subTest(view=name, side=side):
                self.assertTrue(_alike(self.glyph(name, side), glyph))

    def test_outline_surrounds_the_lesion(self) -> None:
        for name, facts in self.facts.items():
            column, row = facts["inside"]
            rows, columns = _outline(self.pictures[name])
            self.assertTrue(columns.min() < column < columns.max(), name)
            self.assertTrue(rows.min() < row < rows.max(), name)

    def test_cross_hair_meets_at_the_lesion(self) -> None:
        for name, facts in self.facts.items():
            column, row = facts["inside"]
            lines = _cross_hair(self.pictures[name])
            self.assertLessEqual(abs(lines.sum(axis=0).argmax() - column), 2, name)
            self.assertLessEqual(abs(lines.sum(axis=1).argmax() - row), 2, name)

    def test_what_the_bars_say(self) -> None:
        # the lesion's centre in RAS mm is (16, 2.5, 14); the scan reaches from 31 R to 25 L and from 21.25 A to 38.75 P
        positions = {name: facts["position"] for name, facts in self.facts.items()}
        self.assertEqual(positions, {"Red": "S: 14.00mm", "Green": "A: 2.50mm", "Yellow": "R: 16.00mm"})
        shares = {name: facts["share"] for name, facts in self.facts.items()}
        self.assertAlmostEqual(shares["Red"], (14 + 11.5) / 60)
        self.assertAlmostEqual(shares["Green"], (2.5 + 38.75) / 60)

    def test_legend_shows_the_colours_of_the_heatmap(self) -> None:
        legend = (self.pictures["legend"] != self.pictures["Red"]).any(axis=-1)
        colours = self.pictures["legend"][legend].astype(int)
        for red, green, blue in HEAT.colours(3) * 255:  # dark, middle and bright
            self.assertLess(np.abs(colours - (red, green, blue)).max(axis=-1).min(), 12)
        self.assertLess(legend.mean(), 0.25)

    def test_findings_are_solid_in_3d(self) -> None:
        picture = self.pictures["3D"]
        height, width, _channels = picture.shape
        cyan = picture[..., 1:].min(axis=-1).astype(int) - picture[..., 0] > 60
        large = np.nonzero(cyan)
        self.assertGreater(cyan.sum(), 0.02 * height * width)
        self.assertGreater(np.median(large[1]), width / 2)  # from the patient's right, anterior is at the right
        red, green, blue = picture[2, 2].tolist()
        self.assertGreater(blue, max(red, green) + 40)  # Slicer's blue background

    def pixel(self, name: str, point: tuple[float, float], beside: int) -> np.ndarray:
        column, row = point
        return self.pictures[name][round(row) + beside, round(column) + beside].astype(int)

    def glyph(self, name: str, side: str) -> np.ndarray:
        """The letter at one side, bool, no larger than it has to be."""
        picture = self.pictures[name]
        height, width, _channels = picture.shape
        reach, middle_row, middle_column = (
            24,
            slice(height // 2 - 12, height // 2 + 12),
            slice(width // 2 - 12, width // 2 + 12),
        )
        places = {
            "left": (middle_row, slice(0, reach)),
            "right": (middle_row, slice(width - reach, width)),
            "top": (slice(0, reach), middle_column),
            "bottom": (slice(height - reach, height), middle_column),
        }
        ink = picture[places[side]].min(axis=-1) > WHITE
        rows, columns = np.nonzero(ink)
        self.assertGreater(rows.size, 0, f"no letter at the {side} of {name}")
        return ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


class FilesTest(unittest.TestCase):
    def test_documents_name_screenshots_that_are_there(self) -> None:
        pages = [ROOT / "README.md", ROOT / "CMakeLists.txt", *sorted((ROOT / "docs").glob("*.md"))]
        named = {name for page in pages for name in re.findall(r"Screenshots/([\w.-]+\.png)", page.read_text("utf-8"))}
        self.assertEqual({name for name in named if not (FOLDER / name).is_file()}, set())

    def test_command_makes_the_pictures_that_are_there(self) -> None:
        source = (ROOT / "Testing" / "make_screenshots.py").read_text("utf-8")
        made = set(re.findall(r'"(\w+\.png)": ', source))
        self.assertEqual(made, {path.name for path in FOLDER.iterdir()})
        self.assertIn("python Testing/make_screenshots.py", (ROOT / "Makefile").read_text("utf-8"))

    def test_pictures_are_small(self) -> None:
        self.assertLess(sum(path.stat().st_size for path in FOLDER.iterdir()), BYTES)


def _rgb(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _outline(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels in the colour of findings."""
    return np.nonzero(np.abs(picture / 255 - CYAN).max(axis=-1) < 0.15)


def _cross_hair(picture: np.ndarray) -> np.ndarray:
    """Where a picture is strongly yellow, bool (height, width)."""
    red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
    return np.minimum(red, green) - blue > 75


def _alike(glyph: np.ndarray, other: np.ndarray) -> bool:
    """Whether two letters are the same, however their edges fall on pixels."""
    small = [np.asarray(Image.fromarray(np.uint8(255 * letter)).resize((8, 8), BOX)) / 255 for letter in (glyph, other)]
    return bool(np.abs(np.subtract(*small)).mean() < 0.11)


if __name__ == "__main__":
    unittest.main()
