"""Detection from a script: one call, with or without callbacks."""

import sys
import unittest
from unittest import mock

import numpy as np
import slicer
import slicer.util

from DALAnomalyLib.errors import CancelledError, DALAnomalyError, InputError
from DALAnomalySlicer.node_roles import results_of
from DALAnomalySlicer.processing import Detected, RunFailedError, process
from DALAnomalySlicer.sample_scans import load_sample
from Testing.slicer.panel_driver import run_folders, wait_until

RUNS_IN_SLICER = True


def noise() -> slicer.vtkMRMLScalarVolumeNode:
    voxels = np.random.default_rng(1).normal(100, 5, (40, 40, 40)).astype(np.float32)
    return slicer.util.addVolumeFromArray(voxels, name="noise")


class ProcessTest(unittest.TestCase):
    def tearDown(self) -> None:
        self.assertEqual(run_folders(), [])
        slicer.mrmlScene.Clear(False)

    def test_waits_and_returns_what_lies_in_the_scene(self) -> None:
        scan, stages = load_sample("T2"), []
        detected = process(scan, "T2", mode="quick", on_progress=lambda stage, fraction: stages.append(fraction))
        self.assertEqual(detected.sequence, "T2")
        self.assertEqual(detected.nodes.heatmap.GetID(), results_of(scan)["heatmap"].GetID())
        self.assertEqual(detected.nodes.table.GetNumberOfRows(), len(detected.rows))
        self.assertGreater(detected.rows[0].volume_ml, 1)
        self.assertEqual(stages, sorted(stages))
        self.assertEqual(stages[-1], 1)

    def test_threshold_and_smallest_volume_are_heeded(self) -> None:
        scan = load_sample("T2")
        detected = process(scan, "T2", mode="quick", threshold=0.05, minimum_volume_ml=1e4)
        self.assertEqual((detected.threshold, detected.rows), (0.05, ()))

    def test_tells_two_scans_apart_that_run_at_once(self) -> None:
        outcomes: dict[str, Detected | DALAnomalyError] = {}
        for sequence in ("T1", "T2"):
            process(
                load_sample(sequence),
                mode="quick",
                on_done=lambda outcome, sequence=sequence: outcomes.update({sequence: outcome}),
            )
        self.assertEqual(outcomes, {})
        wait_until(lambda: len(outcomes) == 2)
        self.assertEqual({name: outcome.sequence for name, outcome in outcomes.items()}, {"T1": "T1", "T2": "T2"})

    def test_a_brain_mask_of_the_user_is_used(self) -> None:
        scan = load_sample("T2")
        brain = slicer.util.arrayFromVolume(scan) > 0
        brain[:, : brain.shape[1] // 2] = False
        mask = slicer.modules.volumes.logic().CreateAndAddLabelVolume(slicer.mrmlScene, scan, "front half")
        slicer.util.updateVolumeFromArray(mask, brain.astype(np.uint8))
        detected = process(scan, "T2", brain_mask=mask, mode="quick")
        score = slicer.util.arrayFromVolume(detected.nodes.heatmap)
        self.assertGreater(score[brain].max(), 0)
        self.assertEqual(score[~brain].max(), 0)

    def test_an_empty_mask_is_refused_before_anything_starts(self) -> None:
        scan = load_sample("T2")
        mask = slicer.modules.volumes.logic().CreateAndAddLabelVolume(slicer.mrmlScene, scan, "nothing")
        with self.assertRaisesRegex(InputError, "nothing"):
            process(scan, brain_mask=mask)

    def test_a_mask_on_another_grid_is_refused(self) -> None:
        other = slicer.modules.volumes.logic().CreateAndAddLabelVolume(slicer.mrmlScene, noise(), "other")
        with self.assertRaisesRegex(InputError, "other"):
            process(load_sample("T2"), brain_mask=other)

    def test_failure_of_the_worker_is_raised(self) -> None:
        with self.assertRaises(RunFailedError):
            process(noise())

    def test_a_callback_that_raises_stops_the_run(self) -> None:
        def enough(stage: str, fraction: float) -> None:
            raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            process(load_sample("T2"), mode="quick", on_progress=enough)
        self.assertEqual(run_folders(), [])

    def test_a_callback_that_raises_ends_a_run_that_nobody_waits_for(self) -> None:
        outcomes: list[Detected | DALAnomalyError] = []
        raised: list[object] = []

        def enough(stage: str, fraction: float) -> None:
            raise ValueError("enough")

        with mock.patch.object(sys, "excepthook", lambda kind, *_: raised.append(kind)):
            process(load_sample("T2"), mode="quick", on_progress=enough, on_done=outcomes.append)
            wait_until(lambda: bool(outcomes))
        self.assertIsInstance(outcomes[0], CancelledError)
        self.assertEqual((len(outcomes), raised), (1, [ValueError]))

    def test_failure_of_the_worker_is_handed_to_the_callback(self) -> None:
        outcomes: list[Detected | DALAnomalyError] = []
        process(noise(), on_done=outcomes.append)
        wait_until(lambda: bool(outcomes))
        self.assertIsInstance(outcomes[0], RunFailedError)
