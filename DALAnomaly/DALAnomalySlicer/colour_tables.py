"""Colour tables of our own: the ones that Slicer reads from files are not there in every application built on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import slicer

TABLE = "DALAnomaly.colours"
"""Node attribute that names a colour table of ours."""
_ENTRIES = 256

Colour: TypeAlias = tuple[float, float, float]
"""Red, green, blue from 0 to 1."""


@dataclass(frozen=True)
class ColourTable:
    """A named table of 256 colours, linear between its stops, each a position from 0 to 1 and a colour."""

    key: str
    name: str
    stops: Sequence[tuple[float, Colour]]

    def colours(self, entries: int = _ENTRIES) -> np.ndarray:
        """Float64 (entries, 3), red, green, blue from 0 to 1."""
        positions = [position for position, _ in self.stops]
        channels = np.array([colour for _, colour in self.stops]).T
        at = np.linspace(0.0, 1.0, entries)
        return np.stack([np.interp(at, positions, channel) for channel in channels], axis=-1)

    def node(self) -> slicer.vtkMRMLColorTableNode:
        """The table as a node of the scene, made on first use, saved with the scene."""
        for node in slicer.util.getNodesByClass("vtkMRMLColorTableNode"):
            if node.GetAttribute(TABLE) == self.key:
                return node
        return add_colour_node(self.key, self.name, self.colours(), [str(entry) for entry in range(_ENTRIES)])


def add_colour_node(
    key: str, name: str, colours: np.ndarray, entry_names: Sequence[str]
) -> slicer.vtkMRMLColorTableNode:
    """Add a colour table to the scene: colours (n, 3) and their names."""
    node = slicer.vtkMRMLColorTableNode()
    node.SetTypeToUser()
    node.SetName(name)
    node.SetAttribute(TABLE, key)
    set_colours(node, colours, entry_names)
    return slicer.mrmlScene.AddNode(node)


def set_colours(node: slicer.vtkMRMLColorTableNode, colours: np.ndarray, entry_names: Sequence[str]) -> None:
    """Replace the colours (n, 3) of a table and their names."""
    node.SetNumberOfColors(len(colours))
    for entry, ((red, green, blue), name) in enumerate(zip(colours.tolist(), entry_names, strict=True)):
        node.SetColor(entry, name, red, green, blue)


HEAT = ColourTable(
    "heat",
    "DAL anomaly score",
    ((0.0, (0.35, 0.0, 0.15)), (0.35, (0.85, 0.1, 0.1)), (0.7, (1.0, 0.6, 0.0)), (1.0, (1.0, 1.0, 0.6))),
)
DIFFERENCE = ColourTable(
    "difference",
    "DAL difference",
    (
        (0.0, (0.35, 0.75, 1.0)),
        (0.25, (0.1, 0.3, 0.75)),
        (0.5, (0.0, 0.0, 0.0)),
        (0.75, (0.75, 0.25, 0.05)),
        (1.0, (1.0, 0.75, 0.35)),
    ),
)
"""Black where the scan looks as expected, blue where it is darker, orange where it is brighter."""
