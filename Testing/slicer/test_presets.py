import json
import unittest

import numpy as np

from DALAnomalyLib.calibration import for_manifest
from DALAnomalySlicer.presets import threshold_presets
from DALAnomalySlicer.score_range import colour_maximum, threshold_limits
from Testing.lib.calibrations import made_up_calibration
from Testing.slicer.mrml_phantom import make_result

SHAPE = (20, 24, 28)


def spread(highest: float, shape: tuple[int, int, int] = SHAPE, threshold: float = 0.4):
    """Scores spread evenly from 0 to `highest` over a brain that fills half of the image."""
    brain = np.zeros(shape, np.uint8)
    brain[: shape[0] // 2] = 1
    score = np.zeros(shape, np.float32)
    count = int(brain.sum())
    score[brain > 0] = np.random.default_rng(0).permutation(np.linspace(0, highest, count, dtype=np.float32))
    return make_result(shape, score=score, brain_mask=brain, threshold=threshold)


def calibration_entries() -> dict[str, dict[str, float]]:
    figures = {"sensitive": (0.1, 4.94, 5.2), "balanced": (0.2, 0.98, 0.75), "specific": (0.3, 0.042, 0.04)}
    names = ("threshold", "false_positive_ml", "false_positives_per_scan")
    return {key: dict(zip(names, values, strict=True)) for key, values in figures.items()}


class PresetsTest(unittest.TestCase):
    def test_without_calibration_shares_of_this_brain_said_as_such(self) -> None:
        sensitive, balanced, specific = threshold_presets(spread(1.0))
        for preset, threshold in ((sensitive, 0.95), (balanced, 0.98), (specific, 0.995)):
            self.assertAlmostEqual(preset.threshold, threshold, places=3)
        self.assertEqual(
            [preset.name for preset in threshold_presets(spread(1.0))], ["Sensitive", "Balanced", "Specific"]
        )
        self.assertEqual(sensitive.meaning, "highest 5 % of this brain, not calibrated on healthy scans")
        self.assertIn("0.5 %", specific.meaning)

    def test_calibration_of_the_sequence(self) -> None:
        entries = calibration_entries()
        result = make_result(manifest={"model": {"calibration": {"T1": entries, "T2": {}}}})
        presets = threshold_presets(result)
        self.assertEqual([preset.threshold for preset in presets], [0.1, 0.2, 0.3])
        self.assertEqual(
            [preset.meaning for preset in presets],
            [
                "about 4.9 ml false per healthy scan (5.2 findings)",
                "about 1.0 ml false per healthy scan (0.8 findings)",
                "about 0.04 ml false per healthy scan (0.04 findings)",
            ],
        )
        other = make_result(manifest={"model": {"calibration": {"T2": entries}}})
        self.assertIn("not calibrated", threshold_presets(other)[0].meaning)

    def test_calibration_that_holds_with_reservations_says_so(self) -> None:
        about = {"scans": 6, "warnings": ["measured on only 6 healthy scans"], "same_preprocessing": False}
        entries = {**calibration_entries(), "about": about}
        presets = threshold_presets(make_result(manifest={"model": {"calibration": {"T1": entries}}}))
        self.assertEqual(
            presets[1].meaning,
            "about 1.0 ml false per healthy scan (0.8 findings); measured on 6 scans, with reservations"
            "; measured with other preprocessing",
        )
        about |= {"warnings": [], "same_preprocessing": True}
        presets = threshold_presets(make_result(manifest={"model": {"calibration": {"T1": entries}}}))
        self.assertEqual(presets[1].meaning, "about 1.0 ml false per healthy scan (0.8 findings)")

    def test_what_the_library_writes_can_be_read(self) -> None:
        calibration = made_up_calibration(sequence="T1")
        record = json.loads(json.dumps(for_manifest(calibration, calibration.preprocessing)))
        presets = threshold_presets(make_result(manifest={"model": {"calibration": {"T1": record}}}))
        self.assertEqual([preset.threshold for preset in presets], [0.02, 0.03, 0.06])
        self.assertIn("about 5.0 ml false per healthy scan", presets[0].meaning)

    def test_presets_stay_within_the_slider(self) -> None:
        score = make_result().score * 0
        score[10, 10, 10] = 0.9
        result = make_result(score=score)
        lowest, _ = threshold_limits(result)
        self.assertEqual({preset.threshold for preset in threshold_presets(result)}, {lowest})

    def test_no_brain(self) -> None:
        empty = np.zeros(SHAPE, np.uint8)
        result = make_result(brain_mask=empty, score=empty.astype(np.float32))
        self.assertEqual(len(threshold_presets(result)), 3)


class ScoreRangeTest(unittest.TestCase):
    def test_from_a_quarter_of_the_recommended_threshold_to_the_highest_score(self) -> None:
        lowest, highest = threshold_limits(spread(0.9))
        self.assertAlmostEqual(lowest, 0.1)
        self.assertAlmostEqual(highest, 0.9)

    def test_the_recommended_threshold_can_always_be_chosen(self) -> None:
        self.assertEqual(threshold_limits(spread(0.3))[1], 0.4)

    def test_a_large_image_begins_where_the_slider_is_still_quick(self) -> None:
        result = spread(1.0, (100, 100, 100), threshold=0.8)
        lowest, _ = threshold_limits(result)
        self.assertAlmostEqual(lowest, 0.7, places=3)  # 150 000 of 500 000 voxels lie above
        self.assertLessEqual(np.count_nonzero(result.score >= lowest), 150_001)

    def test_but_never_above_the_recommended_threshold(self) -> None:
        self.assertEqual(threshold_limits(spread(1.0, (100, 100, 100), threshold=0.3))[0], 0.3)

    def test_colours_end_at_nearly_the_highest_score(self) -> None:
        self.assertAlmostEqual(colour_maximum(spread(1.0)), 0.999, places=3)
        self.assertAlmostEqual(colour_maximum(spread(0.5)), 0.8)  # the recommended threshold is amid the colours


if __name__ == "__main__":
    unittest.main()
