"""The segments of the results: what each is called, its colour, and its SNOMED CT terms.

Categories as Slicer's own terminology has them (`Morphologically Altered Structure`, `Anatomical Structure`, ...), for
its terminology selector to find them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from slicer.i18n import tr as _

Code: TypeAlias = tuple[str, str]
"""SNOMED CT concept and its meaning."""

_ANATOMY: Code = ("123037004", "Anatomical Structure")
_BODY_SUBSTANCE: Code = ("91720002", "Body Substance")
_ALTERED: Code = ("49755003", "Morphologically Altered Structure")
_BRAIN: Code = ("12738006", "Brain")


@dataclass(frozen=True)
class SegmentTerm:
    """One segment.

    Attributes:
        identifier: its ID within the segmentation node.
        name: what the user reads.
        value: its value in the label map.
        colour: red, green, blue, 0 to 1.
        category: SNOMED CT concept of what kind of thing it is; None where no term fits.
        kind: SNOMED CT concept of what it is.
        region: SNOMED CT concept of where it is; None where that goes without saying.
    """

    identifier: str
    name: str
    value: int
    colour: tuple[float, float, float]
    category: Code | None = None
    kind: Code | None = None
    region: Code | None = None

    @property
    def terminology(self) -> str | None:
        """The terms as Slicer keeps them with a segment: category, type, its modifier, region, its modifier."""
        if self.category is None:
            return None
        return "~".join(["", _written(self.category), _written(self.kind), "^^", "", _written(self.region), "^^"])


def _written(code: Code | None) -> str:
    return "^^" if code is None else "^".join(("SCT", *code))


CSF = SegmentTerm("csf", _("CSF"), 1, (0.27, 0.56, 0.92), _BODY_SUBSTANCE, ("65216001", "Cerebrospinal Fluid"))
GREY_MATTER = SegmentTerm(
    "grey_matter", _("Grey matter"), 2, (0.56, 0.60, 0.62), _ANATOMY, ("389081007", "Gray Matter")
)
WHITE_MATTER = SegmentTerm(
    "white_matter", _("White matter"), 3, (0.96, 0.93, 0.80), _ANATOMY, ("389080008", "White Matter")
)
TISSUES = (CSF, GREY_MATTER, WHITE_MATTER)
BRAIN = SegmentTerm("brain", _("Brain"), 1, (0.36, 0.78, 0.53), _ANATOMY, _BRAIN)
EDGES = SegmentTerm("edges", _("Edges"), 1, (0.98, 0.78, 0.20))
ANOMALY = SegmentTerm("anomaly", _("Anomaly"), 1, (0.10, 0.90, 1.00), _ALTERED, ("52988006", "Lesion"), _BRAIN)
"""Cyan, because the heatmap that it outlines runs from red to yellow."""
