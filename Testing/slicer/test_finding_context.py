import unittest

import numpy as np

from DALAnomalyLib.findings_forest import FindingsForest
from DALAnomalyLib.volume import Grid, Volume
from DALAnomalySlicer.finding_context import FindingContext, peak_voxels

# Axes (i, j, k) towards the patient's left, posterior, superior: a small i is on the right.
LPS = Grid((12, 14, 40), (1.0, 1.5, 2.0), (-50.0, 3.0, 7.0))
MIRRORED = Grid((12, 14, 40), (1.0, 1.5, 2.0), (90.0, 3.0, 7.0), (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
TURNED = Grid((12, 14, 40), (1.0, 1.5, 2.0), (-50.0, 3.0, 7.0), (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0))


class FindingContextTest(unittest.TestCase):
    def look(self, score: np.ndarray, grid: Grid = LPS, tissues: np.ndarray | None = None, brain: object = None):
        brain = np.ones(grid.shape, np.uint8) if brain is None else brain
        tissues = np.zeros(grid.shape, np.uint8) if tissues is None else tissues
        forest = FindingsForest(Volume(score, grid), Volume(brain, grid), 0.1)
        _, findings = forest.findings(0.1, 0.0)
        context = FindingContext(tissues, Volume(brain, grid))
        return forest, findings, context

    def sides(self, boxes: list[tuple[slice, slice, slice]], grid: Grid = LPS, brain: object = None) -> list[str]:
        """Sides of the boxes, which must be given from large to small."""
        score = np.zeros(grid.shape, np.float32)
        for box in boxes:
            score[box] = 0.5
        forest, findings, context = self.look(score, grid, brain=brain)
        self.assertEqual(len(findings), len(boxes))
        return context.sides(forest.voxels, len(findings))

    def test_sides_of_the_patient(self) -> None:
        boxes = [
            (slice(2, 8), slice(2, 8), slice(2, 8)),
            (slice(2, 7), slice(2, 7), slice(30, 35)),
            (slice(2, 6), slice(2, 6), slice(18, 22)),
        ]
        self.assertEqual(self.sides(boxes), ["right", "left", "midline"])
        self.assertEqual(self.sides(boxes, MIRRORED), ["left", "right", "midline"])
        self.assertEqual(self.sides(boxes, TURNED)[:2], ["right", "left"])

    def test_a_finding_that_only_touches_the_midline_has_a_side(self) -> None:
        row = (slice(5, 6), slice(5, 6))
        self.assertEqual(self.sides([(*row, slice(11, 21))]), ["right"])  # 9 voxels right of the middle, 1 left
        self.assertEqual(self.sides([(*row, slice(13, 23))]), ["midline"])  # 7 and 3
        self.assertEqual(self.sides([(*row, slice(19, 29))]), ["left"])

    def test_the_middle_is_the_brains_not_the_images(self) -> None:
        brain = np.zeros(LPS.shape, np.uint8)
        brain[:, :, 25:] = 1
        self.assertEqual(self.sides([(slice(2, 5), slice(2, 5), slice(26, 30))], brain=brain), ["right"])

    def test_tissue_of_most_voxels(self) -> None:
        score, tissues = np.zeros(LPS.shape, np.float32), np.zeros(LPS.shape, np.uint8)
        score[1, 1, 0:10], score[5, 1, 0:9], score[9, 1, 0:8], score[1, 9, 0:7] = 0.5, 0.5, 0.5, 0.5
        tissues[1, 1, 0:10] = [0, 0, 0, 0, 0, 3, 3, 3, 2, 2]  # voxels without a tissue do not count
        tissues[5, 1, 0:9] = [1, 1, 1, 1, 2, 2, 2, 3, 3]
        tissues[9, 1, 0:8] = [2] * 8
        forest, findings, context = self.look(score, tissues=tissues)
        expected = ["white matter", "CSF", "grey matter", ""]
        self.assertEqual(context.tissues(forest.voxels, len(findings)), expected)

    def test_peak_voxels(self) -> None:
        score = np.zeros(LPS.shape, np.float32)
        score[1, 1, 0:10], score[5, 1, 0:9] = 0.5, 0.5
        score[1, 1, [3, 7]] = 0.9  # the first of two equal peaks
        score[5, 1, 8] = 0.6
        forest, findings, _ = self.look(score)
        self.assertEqual(peak_voxels(findings, forest.voxels, LPS), [(1, 1, 3), (5, 1, 8)])

    def test_no_findings(self) -> None:
        forest, findings, context = self.look(np.zeros(LPS.shape, np.float32))
        self.assertEqual(context.tissues(forest.voxels, 0), [])
        self.assertEqual(context.sides(forest.voxels, 0), [])
        self.assertEqual(peak_voxels(findings, forest.voxels, LPS), [])


if __name__ == "__main__":
    unittest.main()
