"""How long one step of the threshold slider takes on 256 x 256 x 256 voxels of 1 mm, in the real scene of slicer-core.

    python Testing/benchmark_threshold.py

The score map is smooth noise inside a brain of 1.5 litres with one large lesion, so that 6 % of the brain lie above the
recommended threshold, as in the sample subject. The slider goes from its lowest to its highest position and back. A
step is all that the slider causes before the views draw: findings, segmentation, table, and the heatmap's threshold.
"""

# ruff: noqa: E402 -- the stand-in has to be started before anything that imports Slicer

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "DALAnomaly"), str(ROOT / "Testing")]

import slicer_standin

slicer_standin.start()

import slicer

from DALAnomalySlicer.detection_result import DetectionResult
from DALAnomalySlicer.heatmap_display import set_opacity_mode, show_threshold
from DALAnomalySlicer.live_findings import LiveFindings
from DALAnomalySlicer.result_nodes import update_results

SIDE = 256
STEPS = 25
MINIMUM_ML = 0.1
ALLOWED_MS = 50


def main() -> None:
    """Print milliseconds per step; exit with 1 if any threshold takes longer than is allowed."""
    result = phantom()
    scan = slicer.util.addVolumeFromArray(np.zeros((SIDE,) * 3, np.int16), name="scan")
    began = time.perf_counter()
    nodes = update_results(scan, result)
    shown = time.perf_counter()
    live = LiveFindings(nodes, result)
    print(f"{shown - began:.2f} s to show the result, {time.perf_counter() - shown:.2f} s to prepare the slider")
    print(f"{np.mean(result.score[result.brain_mask > 0] >= result.threshold):.1%} of the brain above the threshold")
    slowest = []
    for mode in ("constant", "proportional"):
        set_opacity_mode(nodes.heatmap, mode)
        milliseconds = slide(live, nodes.heatmap)
        slowest.append(max(milliseconds))
        median = statistics.median(milliseconds)
        print(f"{median:.0f} ms per step in the median, {slowest[-1]:.0f} at most, {mode} opacity")
    sys.exit(max(slowest) > ALLOWED_MS)


def slide(live: LiveFindings, heatmap: slicer.vtkMRMLScalarVolumeNode) -> list[float]:
    """Milliseconds at each threshold, the quicker of the ways up and down: something else may have interrupted one."""
    upwards = np.geomspace(live.lowest, live.highest, STEPS).tolist()
    live.update(live.lowest, MINIMUM_ML)  # the first of all steps makes the label map
    milliseconds = []
    for threshold in upwards + upwards[::-1]:
        began = time.perf_counter()
        live.update(threshold, MINIMUM_ML)
        show_threshold(heatmap, threshold)
        milliseconds.append(1000 * (time.perf_counter() - began))
    return [min(pair) for pair in zip(milliseconds[:STEPS], milliseconds[: STEPS - 1 : -1], strict=True)]


def phantom() -> DetectionResult:
    """An ellipsoid brain with noise of 3 voxels' smoothness and a lesion of 65 ml."""
    k, j, i = np.ogrid[:SIDE, :SIDE, :SIDE]
    brain = ((k - 128) / 62) ** 2 + ((j - 128) / 85) ** 2 + ((i - 128) / 68) ** 2 < 1
    noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(brain.shape, dtype=np.float32), 3)
    lesion = np.exp(-0.5 * (((k - 145) / 12) ** 2 + ((j - 100) / 18) ** 2 + ((i - 100) / 14) ** 2))
    score = (0.02 * np.clip(noise / noise.std(), 0, None) ** 3 / 10 + 0.08 * lesion).astype(np.float32) * brain
    tissues = (1 + (i + j + k) // 20 % 3).astype(np.uint8) * brain
    return DetectionResult(
        score=score,
        pseudo_healthy=brain.astype(np.float32),
        tissues=tissues,
        edges=np.zeros_like(tissues),
        brain_mask=brain.astype(np.uint8),
        sequence="T1",
        sequence_evidence="",
        threshold=float(np.percentile(score[brain], 94)),
        minimum_finding_ml=MINIMUM_ML,
        warnings=(),
        manifest={},
    )


if __name__ == "__main__":
    main()
