import numpy as np
import pytest

from DALAnomalyLib.preprocessing.sequence import guess_sequence

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
