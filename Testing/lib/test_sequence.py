from __future__ import annotations

import numpy as np
import pytest

from DALAnomalyLib.errors import InputError, UsageError
from DALAnomalyLib.preprocessing.appearance import BRIGHT_FLUID_SHARE, BRIGHT_SHARE, Appearance
from DALAnomalyLib.preprocessing.sequence import (
    SequenceDecision,
    SequenceGuess,
    check_sequence,
    decide_sequence,
    guess_sequence,
    likely_sequence,
)
from DALAnomalyLib.volume_io import ScanDescription

SHAPE = (14, 15, 16)


def tissue_map() -> np.ndarray:
    """0 outside a box of brain, and 1 to 3 in blocks inside."""
    tissues = np.zeros(SHAPE, dtype=np.uint8)
    tissues[2:12, 2:13, 2:14] = 1
    tissues[3:11, 3:12, 3:13] = 2
    tissues[5:9, 5:10, 5:11] = 3
    return tissues


def painted(dark_to_bright: tuple[float, float, float], noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """An image with these intensities of CSF, grey and white matter."""
    image = np.array([0.0, *dark_to_bright], dtype=np.float32)[tissue_map()]
    image += noise * np.random.default_rng(seed).standard_normal(SHAPE, dtype=np.float32) * (image > 0)
    return image


BRAIN = (tissue_map() > 0).astype(np.uint8)
T1_CONTRAST, T2_CONTRAST = (0.2, 0.5, 0.8), (0.9, 0.5, 0.3)
TEMPLATES = {"T1": painted(T1_CONTRAST), "T2": painted(T2_CONTRAST)}


@pytest.mark.parametrize("gain", [1.0, 1000.0])
@pytest.mark.parametrize(("contrast", "name"), [(T1_CONTRAST, "T1"), (T2_CONTRAST, "T2")])
def test_a_scan_is_recognised_by_its_contrast(contrast: tuple[float, float, float], name: str, gain: float) -> None:
    guess = guess_sequence(gain * painted(contrast, noise=0.1) + gain, BRAIN, TEMPLATES)
    assert (guess.name, guess.is_clear) == (name, True)
    assert guess.evidence.startswith("correlation with the mean T1 ")
    assert ", T2 -0." in guess.evidence or "T1 -0." in guess.evidence


def test_evidence_states_the_correlations() -> None:
    guess = guess_sequence(TEMPLATES["T1"], BRAIN, {"T1": TEMPLATES["T1"], "inverse": (1 - TEMPLATES["T1"]) * BRAIN})
    assert guess.evidence == "correlation with the mean T1 1.00, inverse -1.00"


def test_a_bright_lesion_does_not_change_the_guess() -> None:
    image = painted(T1_CONTRAST, noise=0.05)
    image[4, 4:6, 4:6] = 1e4
    guess = guess_sequence(image, BRAIN, TEMPLATES)
    assert (guess.name, guess.is_clear) == ("T1", True)


def test_outside_the_brain_does_not_count() -> None:
    image = painted(T2_CONTRAST)
    image[BRAIN == 0] = 5
    assert guess_sequence(image, BRAIN, TEMPLATES) == guess_sequence(painted(T2_CONTRAST), BRAIN, TEMPLATES)


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(painted((1, 1, 1), noise=0.3), id="noise alone"),
        pytest.param(painted((1, 1, 1)), id="constant"),
        pytest.param(painted((1, 1, 1)) * np.arange(1, 17, dtype=np.float32), id="a ramp across the brain"),
    ],
)
def test_a_scan_that_fits_no_sequence_is_unclear(image: np.ndarray) -> None:
    assert not guess_sequence(image, BRAIN, TEMPLATES).is_clear


def test_a_scan_that_only_misfits_one_sequence_less_is_unclear() -> None:
    ramp = BRAIN * np.arange(1, 17, dtype=np.float32)
    guess = guess_sequence(painted(T1_CONTRAST), BRAIN, {"ramp": ramp, "T2": TEMPLATES["T2"]})
    assert guess.evidence == "correlation with the mean ramp 0.00, T2 -0.98"
    assert not guess.is_clear


def test_a_scan_that_fits_two_sequences_alike_is_unclear() -> None:
    alike = TEMPLATES | {"MPRAGE": painted((0.21, 0.5, 0.8))}
    guess = guess_sequence(painted(T1_CONTRAST), BRAIN, alike)
    assert guess.name in ("T1", "MPRAGE")
    assert not guess.is_clear


@pytest.mark.parametrize(("contrast", "is_clear"), [(T1_CONTRAST, True), (T2_CONTRAST, False)])
def test_a_single_sequence_still_has_to_fit(contrast: tuple[float, float, float], is_clear: bool) -> None:
    guess = guess_sequence(painted(contrast, noise=0.05), BRAIN, {"T1": TEMPLATES["T1"]})
    assert (guess.name, guess.is_clear) == ("T1", is_clear)


def test_a_brain_apart_from_the_templates_is_unclear() -> None:
    elsewhere = np.zeros(SHAPE, dtype=np.uint8)
    elsewhere[0, 0, 0] = 1
    guess = guess_sequence(painted(T1_CONTRAST), elsewhere, TEMPLATES)
    assert (guess.is_clear, guess.evidence) == (False, "correlation with the mean T1 0.00, T2 0.00")


# --- what is decided --------------------------------------------------------------------------------------------------

KNOWN = ("T1", "T2")
SURE = SequenceGuess("T2", "correlation with the mean T1 -0.60, T2 0.70", is_clear=True)
UNSURE = SequenceGuess("T2", "correlation with the mean T1 0.00, T2 0.05", is_clear=False)


def header(
    sequence: str | None = None, modality: str | None = "MR", contrast_agent: bool | None = None
) -> ScanDescription:
    return ScanDescription(modality, sequence, contrast_agent, "DICOM: TR 9000 ms, TE 110 ms")


def image(kind: str, bright_share: float = 0.0, bright_fluid_share: float = 0.0) -> Appearance:
    return Appearance(kind, {}, {}, bright_share, bright_fluid_share, 0.9, "correlation with the atlas 0.50")


def decided(
    told: str = "auto",
    description: ScanDescription | None = None,
    appearance: Appearance | None = None,
    guess: SequenceGuess = SURE,
    known: tuple[str, ...] = KNOWN,
    registered: bool = True,
) -> SequenceDecision:
    return decide_sequence(told, known, description, appearance, guess, registered)


@pytest.mark.parametrize("told", ["auto", "T1"])
def test_another_modality_is_refused_whatever_is_told(told: str) -> None:
    with pytest.raises(InputError, match="the header says that this is a CT image; give a T1 or T2 MR scan"):
        decided(told, header(modality="CT"))


@pytest.mark.parametrize("sequence", ["FLAIR", "PD", "T2*", "DWI"])
def test_a_sequence_of_the_header_that_the_model_does_not_know_is_refused_with_the_evidence(sequence: str) -> None:
    with pytest.raises(InputError) as refusal:
        decided("auto", header(sequence), image("T2"))
    message = str(refusal.value)
    assert message.startswith(f"this looks like {sequence} (DICOM: TR 9000 ms, TE 110 ms; correlation with the atlas")
    assert "the model knows T1 and T2" in message
    assert "name the sequence yourself" in message


def test_a_named_sequence_wins_over_the_header_with_a_warning() -> None:
    decision = decided("T2", header("FLAIR"), image("T2"))
    assert decision.name == "T2"
    (warning,) = decision.warnings
    assert warning.startswith("told to be T2 but the header says FLAIR (DICOM: TR 9000 ms")


def test_a_named_sequence_wins_over_header_and_image_with_a_warning_of_each() -> None:
    decision = decided("T1", header("T2"), image("FLAIR"))
    assert decision.name == "T1"
    assert [warning.split(" (")[0] for warning in decision.warnings] == [
        "told to be T1 but the header says T2",
        "told to be T1 but it looks like FLAIR",
    ]


@pytest.mark.parametrize("seen", ["FLAIR", "CT", "unknown"])
def test_an_image_that_looks_like_something_else_is_refused_unless_it_is_named(seen: str) -> None:
    with pytest.raises(InputError, match="no brain that this model knows" if seen == "unknown" else seen):
        decided("auto", None, image(seen))
    warnings = decided("T1", None, image(seen)).warnings
    assert len(warnings) == (0 if seen == "unknown" else 1)


@pytest.mark.parametrize("sequence", KNOWN)
def test_the_header_is_believed_when_the_image_agrees(sequence: str) -> None:
    decision = decided("auto", header(sequence), image(sequence))
    assert (decision.name, decision.warnings) == (sequence, ())
    assert decision.evidence == "DICOM: TR 9000 ms, TE 110 ms; correlation with the atlas 0.50"


def test_the_header_is_believed_with_a_warning_when_the_image_disagrees() -> None:
    decision = decided("auto", header("T1"), image("T2"))
    assert decision.name == "T1"
    (warning,) = decision.warnings
    assert warning.startswith("the header says T1 but the image looks like T2 (")


def test_without_registration_the_mean_images_speak_against_the_header() -> None:
    (warning,) = decided("auto", header("T1"), None, SURE).warnings
    assert warning.startswith("the header says T1 but the image looks like T2 (")
    assert decided("auto", header("T1"), None, UNSURE).warnings == ()


def test_the_image_decides_where_the_header_says_nothing() -> None:
    assert decided("auto", header(None), image("T1")).name == "T1"
    assert decided("auto", None, image("T1"), guess=SURE).name == "T1", "the atlas outweighs the mean images"
    assert decided("auto", None, None, SURE) == SequenceDecision("T2", SURE.evidence, ())


def test_an_unclear_guess_is_said() -> None:
    decision = decided("auto", None, None, UNSURE)
    assert decision.name == "T2"
    (warning,) = decision.warnings
    assert warning.startswith("sequence unclear, taken as T2 (correlation with the mean")


def test_a_model_that_knows_flair_takes_it() -> None:
    known = (*KNOWN, "FLAIR")
    assert decided("auto", header("FLAIR"), image("FLAIR"), known=known) == SequenceDecision(
        "FLAIR", "DICOM: TR 9000 ms, TE 110 ms; correlation with the atlas 0.50", ()
    )
    assert decided("auto", None, image("FLAIR"), known=known).name == "FLAIR"


@pytest.mark.parametrize("told", ["auto", "T1"])
def test_a_contrast_agent_is_warned_of(told: str) -> None:
    named = decided(told, header("T1", contrast_agent=True), image("T1", 2 * BRIGHT_SHARE)).warnings
    assert named == ("the header names a contrast agent; the model knows scans without one, findings may be wrong",)
    (seen,) = decided(told, header("T1"), image("T1", 2 * BRIGHT_SHARE)).warnings
    assert seen.startswith("4.0% of the brain is clearly brighter than white matter, as after a contrast agent")
    (deep,) = decided(told, header("T1"), image("T1", 0.0, 2 * BRIGHT_FLUID_SHARE)).warnings
    assert deep.startswith("0.7% of the fluid deep in the brain is clearly brighter than white matter, as after")
    assert decided(told, header("T1"), image("T1", 2 * BRIGHT_SHARE, 2 * BRIGHT_FLUID_SHARE)).warnings == (seen,)


def test_fluid_that_may_be_something_else_is_no_contrast_agent() -> None:
    assert decided("T1", None, image("T1", 0.0, 10 * BRIGHT_FLUID_SHARE), registered=False).warnings == ()
    assert decided("T1", None, image("T1", 2 * BRIGHT_SHARE), registered=False).warnings != ()


def test_bright_fluid_on_t2_is_no_contrast_agent() -> None:
    assert decided("auto", header("T2", contrast_agent=False), image("T2", 0.4, 1.0)).warnings == ()
    little = image("T1", 0.5 * BRIGHT_SHARE, 0.5 * BRIGHT_FLUID_SHARE)
    assert decided("auto", header("T1", contrast_agent=False), little).warnings == ()


@pytest.mark.parametrize(
    ("told", "description", "expected"),
    [
        ("T1", header("T2"), "T1"),
        ("auto", header("T1"), "T1"),
        ("auto", header("FLAIR"), None),
        ("auto", header(None), None),
        ("auto", None, None),
    ],
)
def test_the_sequence_to_begin_with(told: str, description: ScanDescription | None, expected: str | None) -> None:
    assert likely_sequence(told, description) == expected


def test_an_unknown_sequence_is_refused_with_those_that_are_known() -> None:
    check_sequence("auto", KNOWN)
    check_sequence("T2", KNOWN)
    with pytest.raises(UsageError, match="unknown sequence 'FLAIR'; this model knows T1, T2 and 'auto'"):
        check_sequence("FLAIR", KNOWN)
