"""`slicer.parameterNodeWrapper`: typed access to a parameter node of the scene, and to it from widgets.

Values are stored as Slicer stores them, so that scenes are exchangeable: numbers, texts, paths and enumerations as
parameters, nodes as node references, lists as `<name>_len` and `<name>_<index>`, and a union under `<name>_<n>` where n
is the alternative. Not here: tuples, dictionaries, parameter packs, and widgets made from types.
"""

from .annotations import (
    Choice,
    Decimals,
    Default,
    Exclude,
    Maximum,
    Minimum,
    SingleStep,
    Validator,
    WithinRange,
)
from .connectors import SlicerParameterNamePropertyName
from .wrapper import isParameterNodeWrapper, parameterNodeWrapper

__all__ = [
    "Choice",
    "Decimals",
    "Default",
    "Exclude",
    "Maximum",
    "Minimum",
    "SingleStep",
    "SlicerParameterNamePropertyName",
    "Validator",
    "WithinRange",
    "isParameterNodeWrapper",
    "parameterNodeWrapper",
]
