"""What a report of a problem needs, without patient, user or computer."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence

from DALAnomalyLib.job.manifest import RESEARCH_USE, versions
from DALAnomalySlicer.export.redaction import redacted
from DALAnomalySlicer.export.run_record import (
    Manifest,
    model_of,
    parameters_of,
    seconds_of,
    steps_of,
    versions_of,
)


def diagnostics_text(
    manifest: Manifest | None,
    warnings: Sequence[str] = (),
    log: str = "",
    facts: Mapping[str, object] | None = None,
    private: Iterable[str] = (),
) -> str:
    """Versions, platform, model, parameters, steps with times, warnings and the end of the log, as plain text.

    Args:
        manifest: of the run; None if there is no result.
        warnings: what the user was told.
        log: last lines of the worker.
        facts: what else is known, such as the version of 3D Slicer, the device or the last error.
        private: words that must not appear, such as names of scans and patients.

    Returns:
        The text, `redacted`.
    """
    here = {**versions(), "system": platform.platform(), **(facts or {})}
    lines = ["DALAnomaly diagnostics", RESEARCH_USE, *_section("this computer", _pairs(here))]
    lines += _run_lines(manifest) if manifest else ["", "no result"]
    lines += _section("warnings", warnings or ["none"])
    lines += _section("last lines of the log", log.splitlines() or ["none"])
    return redacted("\n".join(lines) + "\n", private)


def _run_lines(manifest: Manifest) -> list[str]:
    model = model_of(manifest)
    steps = [
        f"{step.name} ({step.status}, {step.seconds:.1f} s) {step.evidence}".strip() for step in steps_of(manifest)
    ]
    return [
        *_section("run with", _pairs(versions_of(manifest))),
        *_section("model", [f"{model.name} {model.version}", f"SHA-256 {model.sha256}"]),
        *_section("parameters", _pairs(parameters_of(manifest))),
        *_section("steps", steps),
        *_section("times", _pairs(seconds_of(manifest))),
    ]


def _section(title: str, lines: Iterable[str]) -> list[str]:
    return ["", title, *(f"  {line}" for line in lines)]


def _pairs(facts: Mapping[str, object]) -> Iterator[str]:
    return (f"{name}: {value}" for name, value in facts.items())
