"""What the manifest of a run says, as lines of text for people.

A manifest may come from another version: whatever it lacks is left out or called unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Manifest: TypeAlias = Mapping[str, Any]
Facts: TypeAlias = dict[str, str]
"""Names and values in the order in which they are shown."""

_UNKNOWN = "unknown"


@dataclass(frozen=True)
class ModelIdentity:
    """Which model made a result; "unknown" where the manifest does not say."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class StepSummary:
    """One step of the preprocessing: its name, what became of it, how long it took, and why it went so."""

    name: str
    status: str
    seconds: float
    evidence: str


def model_of(manifest: Manifest) -> ModelIdentity:
    """The model that a manifest names."""
    model = manifest.get("model") or {}
    return ModelIdentity(*(str(model.get(field) or _UNKNOWN) for field in ("name", "version", "sha256")))


def versions_of(manifest: Manifest) -> Facts:
    """Versions of the programs that made the result, and the device."""
    return _flat({**(manifest.get("versions") or {}), "device": manifest.get("device")})


def parameters_of(manifest: Manifest) -> Facts:
    """The parameters that were used, then what the user asked for; without what was left open."""
    asked = {f"requested {name}": value for name, value in _flat(manifest.get("requested") or {}).items()}
    return {**_flat(manifest.get("parameters") or {}), **asked}


def steps_of(manifest: Manifest) -> tuple[StepSummary, ...]:
    """The steps of the preprocessing in their order."""
    return tuple(
        StepSummary(
            _words(step.get("name", _UNKNOWN)),
            str(step.get("status", "")),
            float(step.get("seconds") or 0),
            str(step.get("evidence", "")),
        )
        for step in manifest.get("steps") or ()
    )


def seconds_of(manifest: Manifest) -> Facts:
    """How long each stage of the run took, and all of it."""
    times = manifest.get("times") or {}
    stages = {**(times.get("stages_seconds") or {}), "in all": times.get("seconds")}
    return {name: f"{value:.1f} s" for name, value in stages.items() if value is not None}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Facts:
    """Nested mappings as one; without values that are None or False."""
    facts: Facts = {}
    for name, value in values.items():
        title = f"{prefix}{_words(name)}"
        if isinstance(value, Mapping):
            facts |= _flat(value, f"{title}: ")
        elif value is not None and value is not False:
            facts[title] = _text(value)
    return facts


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, bool):
        return "yes"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _words(name: str) -> str:
    return name.replace("_", " ")
