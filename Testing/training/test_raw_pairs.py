from __future__ import annotations

import numpy as np
import pytest

from DALAnomalyLib.errors import CancelledError, InputError
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.rigid_transform import RigidTransform
from DALAnomalyLib.volume import Volume
from DALAnomalyTraining import raw_pairs
from DALAnomalyTraining.raw_pairs import align_sequences, need_placing, shared_outline
from Testing.lib.atlas_phantom import BRAIN_GRID, CONTRASTS, brain, distance, motion, painted

SLIGHT = motion(1.5, (1, 0.5, -0.3), (1.0, -1.0, 1.0))
"""What registration to the atlas may leave between two sequences."""


def align(moved: RigidTransform, cancel: CancelToken | None = None) -> RigidTransform:
    t1, t2 = painted(CONTRASTS["T1"]), painted(CONTRASTS["T2"])
    return align_sequences(t1, brain(), moved.move(t2), moved.move(brain()), cancel or CancelToken())


def test_the_second_sequence_is_brought_onto_the_first() -> None:
    identity = motion(0, (1, 0, 0), (0, 0, 0))
    assert distance(SLIGHT, identity) > 1.5
    assert distance(align(SLIGHT).after(SLIGHT), identity) < 0.4


def test_scans_too_far_apart_are_not_one_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_pairs, "FARTHEST_MM", 1.0)
    with pytest.raises(InputError, match=r"mm from where the atlas put it .* are both of one person\?"):
        align(SLIGHT)


def test_alignment_can_be_cancelled() -> None:
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(CancelledError):
        align(SLIGHT, cancel)


def test_the_outline_is_what_both_share() -> None:
    first, second = brain().array.copy(), brain().array.copy()
    first[: len(first) // 4], second[:, :8] = 0, 0
    found = shared_outline(Volume(first, BRAIN_GRID), Volume(second, BRAIN_GRID), "T1")
    np.testing.assert_array_equal(found.array, first & second)


def test_outlines_that_hardly_overlap_are_refused() -> None:
    half = brain().array.copy()
    half[: len(half) // 2] = 0
    with pytest.raises(InputError, match=r"its brain outline and that of T1 overlap by 0\.\d+, 0.88 is needed"):
        shared_outline(brain(), Volume(half, BRAIN_GRID), "T1")


def test_scans_with_a_skull_or_on_two_grids_need_placing() -> None:
    t1, t2 = painted(CONTRASTS["T1"]), painted(CONTRASTS["T2"])
    assert not need_placing({"T1": t1, "T2": t2})
    assert need_placing({"T1": t1, "T2": SLIGHT.move(t2)})
    with_skin = t2.with_array(np.where(brain().array > 0, t2.array, 300 + np.arange(38)[:, None, None]))
    assert need_placing({"T1": t1, "T2": with_skin.with_array(with_skin.array.astype(np.float32))})
