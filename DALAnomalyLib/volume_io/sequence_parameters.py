"""What a header tells of an MR sequence, in one form for DICOM and for NIfTI sidecars."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

KEYWORDS = {
    "T1": r"t1w?i?|t1weighted|mprage|mp2?rage|bravo|spgr|fspgr|ir-?fspgr|tfl",
    "T2": r"t2w?i?|t2weighted",
    "FLAIR": r"flair|tirm|darkfluid|fluid",
    "PD": r"pdw?|protondensity",
    "DWI": r"dwi|dti|diff|diffusion|trace|tracew|resolve|b1000",
    "ADC": r"adc|apparent",
    "SWI": r"swi|swan|susc|susceptibility|minip|mnip",
    "T2*": r"t2star|t2s|medic|hemo|gre",
    "MRA": r"tof|mra|angio|angiography|mrv",
    "STIR": r"stir",
    "perfusion": r"asl|perf|perfusion|pwi|dsc|dce|cbf|cbv|mtt",
    "localiser": r"localizer|localiser|loc|scout|pilot|survey",
    "bSSFP": r"ciss|fiesta|trufi|bffe|truefisp",
}
"""Words of protocol names, as regular expressions for a whole word in lower case."""
_CONTRAST_WORDS = re.compile(r"gd|gad|gado\w*|post|postgd|postcontrast|ce|km|mdc|contrast|\+c|c\+|\+gd|\+km")
_NO_CONTRAST_WORDS = re.compile(r"pre|precontrast|nativ|native|without|noncontrast|nonce")
_BOTH = re.compile(r"\bw(?:ith)?[\s_/&+-]+(?:and[\s_]+)?w(?:/?o|ithout)\b")
_DENIED = re.compile(
    r"(?<![a-z])(?:w/?o|without|no|non|ohne|vor|sans|sin|senza)[\s_/-]+(?:iv[\s_-]+)?"
    r"(?:contrast\w*|kontrast\w*|gd|gado?\w*|km|ce|mdc)(?![a-z])"
)
_OPERATED = re.compile(r"post[\s_-]?op\w*")
_WORD = re.compile(r"\+?[a-z0-9*-]+\+?")
_DENIALS = ("", "NO", "NONE", "N", "0", "WITHOUT", "NO CONTRAST", "N/A", "NA", "NIL", "UNKNOWN")


@dataclass(frozen=True)
class SequenceParameters:
    """Numbers and recognised words; times in ms, None where the header is silent.

    Attributes:
        modality: "MR", "CT", ...
        methods: codes of the scanning sequence: SE, GR, IR, EP, RM.
        variants: codes of the sequence variant: SP (spoiled), SS (steady state), MP (magnetisation prepared), ...
        is_3d: whether a volume, not slices, was excited.
        image_kinds: values of the image type: ORIGINAL, M, ADC, LOCALIZER, ...
        stated_contrast: Acquisition Contrast of enhanced MR: T1, T2, FLUID_ATTENUATED, DIFFUSION, ...
        b_value: diffusion weighting in s/mm2.
        contrast_agent: whether one was given.
        names: sequences (keys of `KEYWORDS`) that the names of the protocol and series mention.
    """

    modality: str | None = None
    methods: frozenset[str] = frozenset()
    variants: frozenset[str] = frozenset()
    is_3d: bool | None = None
    repetition_time: float | None = None
    echo_time: float | None = None
    inversion_time: float | None = None
    flip_angle: float | None = None
    b_value: float | None = None
    image_kinds: frozenset[str] = frozenset()
    stated_contrast: str = ""
    angiography: bool = False
    contrast_agent: bool | None = None
    names: frozenset[str] = frozenset()


def sequences_named(texts: Iterable[str]) -> frozenset[str]:
    """Which sequences the first of some free texts mentions that mentions any; nothing else of them is kept.

    Args:
        texts: of the series, then of the protocol, which may be the name of the whole examination.
    """
    return next((names for names in map(_sequences_in, texts) if names), frozenset())


def contrast_agent_of(agent: str | None, texts: Iterable[str]) -> bool | None:
    """Whether a contrast agent was given, from the element that names it, else from the first text that tells.

    Args:
        agent: None or "" where the header is silent.
        texts: as in `sequences_named`.
    """
    if agent is not None and agent.strip():
        return agent.strip().upper() not in _DENIALS
    return next((told for told in map(_agent_in, texts) if told is not None), None)


def _sequences_in(text: str) -> frozenset[str]:
    words = _words(text.casefold())
    return frozenset(
        name for name, pattern in KEYWORDS.items() if any(re.fullmatch(pattern, word) is not None for word in words)
    )


def _agent_in(text: str) -> bool | None:
    lowered = text.casefold()
    if _BOTH.search(lowered):
        return None  # how examinations are called, which says nothing of one series
    words = _words(_OPERATED.sub("", _DENIED.sub("noncontrast", lowered)))
    if any(_NO_CONTRAST_WORDS.fullmatch(word) for word in words):
        return False
    return True if any(_CONTRAST_WORDS.fullmatch(word) for word in words) else None


def _words(lowered: str) -> set[str]:
    found: set[str] = set()
    joined = re.sub(r"dark[\s_-]fluid", "darkfluid", lowered.replace("t2*", "t2star"))
    for part in re.split(r"[\s_./,;:()\[\]^\\]+", joined):
        found.update(_WORD.findall(part))
        found.update(part.split("-"))
    return found - {""}
