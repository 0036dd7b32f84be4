"""Which sequence the parameters of a scan make it, by the physics of its contrast.

Times in ms. The limits are those of clinical protocols at 1.5 and 3 T; between them nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Mapping

from DALAnomalyLib.volume_io.sequence_parameters import SequenceParameters

SHORT_TR, LONG_TR = 1000.0, 2000.0
SHORT_TE, MEDIUM_TE, LONG_TE = 30.0, 40.0, 70.0
FLUID_TI = (1600.0, 2900.0)
"""Inversion times that null cerebrospinal fluid: T1 4.3 s ln 2 = 3.0 s for an infinite TR, less for shorter ones."""
T1_TI = (400.0, 1300.0)
FAT_TI = (80.0, 300.0)

# of Image Type, DICOM's own words and those of the manufacturers
_DERIVED_KINDS: Mapping[str, tuple[str, ...]] = {
    "localiser": ("LOCALIZER", "LOCALISER", "SCOUT"),
    "projection or reformatted image": ("PROJECTION IMAGE", "MIP", "MINIP", "MNIP", "MIN_IP", "MPR", "REFORMATTED"),
    "phase or complex part": ("P", "PHASE", "PHASE MAP", "R", "REAL", "I", "IMAGINARY"),
    "quantitative map": ("T1 MAP", "T2 MAP", "T2_STAR MAP", "T2STAR MAP", "R2 MAP", "R2_STAR MAP", "FA", "MAP"),
    "subtraction": ("SUBTRACT", "SUBTRACTION"),
    "perfusion map": ("PERFUSION", "CBF", "CBV", "MTT", "TTP", "RELCBF", "RELCBV", "RELMTT"),
    "screen capture": ("SCREEN SAVE", "SCREENSHOT", "CSA REPORT"),
}
_STATED: Mapping[str, str] = {
    "T1": "T1",
    "T2": "T2",
    "T2_STAR": "T2*",
    "PROTON_DENSITY": "PD",
    "FLUID_ATTENUATED": "FLAIR",
    "DIFFUSION": "DWI",
    "TIME_OF_FLIGHT": "MRA",
    "FLOW_ENCODED": "MRA",
    "STIR": "STIR",
    "PERFUSION": "perfusion",
    "SUSCEPTIBILITY": "SWI",
}


def derived_kind(parameters: SequenceParameters) -> str | None:
    """What an image is if it is no direct magnitude image of the brain, such as "localiser"; None if it is one."""
    for name, words in _DERIVED_KINDS.items():
        if parameters.image_kinds & set(words):
            return name
    if "localiser" in parameters.names:
        return "localiser"
    return "derived image" if "DERIVED" in parameters.image_kinds else None


def sequence_of(parameters: SequenceParameters) -> str | None:
    """Name of the sequence, or None where the parameters leave it open or contradict each other."""
    special = _special(parameters)
    if special:
        return special
    physics = _STATED.get(parameters.stated_contrast) or _by_times(parameters)
    if physics == "T2" and parameters.inversion_time is None and "FLAIR" in parameters.names:
        return "FLAIR"  # without its inversion time the one looks like the other
    return physics or _by_name(parameters)


def _special(parameters: SequenceParameters) -> str | None:
    """Images that TR and TE say nothing about."""
    kinds, names = parameters.image_kinds, parameters.names
    if "ADC" in kinds or "ADC" in names:
        return "ADC"
    if (parameters.b_value or 0) > 0 or kinds & {"DIFFUSION", "TRACEW", "TRACE"}:
        return "DWI"
    if "EP" in parameters.methods and "DWI" in names:
        return "DWI"
    if kinds & {"SWI", "SWAN"} or "SWI" in names:
        return "SWI"
    if parameters.angiography or kinds & {"TOF", "ANGIO"} or "MRA" in names:
        return "MRA"
    return "perfusion" if "perfusion" in names or "ASL" in kinds else None


def _by_times(parameters: SequenceParameters) -> str | None:
    echo, repetition, inversion = parameters.echo_time, parameters.repetition_time, parameters.inversion_time
    if echo is None:
        return None
    if inversion:
        return _inversion_recovery(parameters, echo, inversion)
    if repetition is None or "IR" in parameters.methods:
        return None  # prepared by an inversion at an unknown time
    if "GR" in parameters.methods:
        return _gradient_echo(parameters, echo, repetition)
    return _spin_echo(echo, repetition) if "SE" in parameters.methods and "EP" not in parameters.methods else None


def _inversion_recovery(parameters: SequenceParameters, echo: float, inversion: float) -> str | None:
    """What is nulled decides: fluid (FLAIR), fat (STIR), or nothing of the brain (T1)."""
    if _within(inversion, FLUID_TI) and echo > LONG_TE:
        return "FLAIR"
    if _within(inversion, T1_TI) and echo < SHORT_TE:
        return "T1"
    return "STIR" if _within(inversion, FAT_TI) and "GR" not in parameters.methods else None


def _spin_echo(echo: float, repetition: float) -> str | None:
    if repetition < SHORT_TR and echo < SHORT_TE:
        return "T1"
    if repetition > LONG_TR and echo > LONG_TE:
        return "T2"
    return "PD" if repetition > LONG_TR and echo < MEDIUM_TE else None


def _gradient_echo(parameters: SequenceParameters, echo: float, repetition: float) -> str | None:
    """A short echo and enough flip for saturation make T1; a long echo T2*."""
    if echo >= 15 or "EP" in parameters.methods:
        return "T2*"
    flip = parameters.flip_angle
    if "bSSFP" in parameters.names or (flip is not None and flip > 35 and repetition < 15):
        return None  # balanced steady state: T2/T1
    if echo < 10 and repetition < 50:
        return "T1" if parameters.is_3d and (flip is None or flip >= 5) else None
    return "T1" if echo < 10 and repetition < 500 and flip is not None and flip >= 50 else None


def _by_name(parameters: SequenceParameters) -> str | None:
    """The names are a weak hint: they count only when nothing else does and only one sequence is named."""
    names = set(parameters.names) - {"bSSFP", "localiser"}
    if "FLAIR" in names:
        names -= {"T2"}  # "t2_flair"; a T1 FLAIR stays in doubt
    if names >= {"T2*", "T2"} or names >= {"T2*", "T1"}:
        names -= {"T2*"}  # "t1_gre", "t2_gre" name their weighting
    return names.pop() if len(names) == 1 else None


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]
