"""`dal-anomaly preprocess`: the way of a raw scan to the network, without the network."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer

from DALAnomalyCLI import manifest, reporting
from DALAnomalyCLI.outputs import result_folder, writing
from DALAnomalyCLI.preprocessing_files import (
    INTERMEDIATE_FILES,
    QUALITY_FILE,
    write_intermediate,
    write_quality_file,
)
from DALAnomalyCLI.preprocessing_options import (
    AtlasFolder,
    BrainExtraction,
    NoCache,
    Preprocessed,
    PreprocessingOptions,
    Registration,
    Series,
    Skip,
    Window,
)
from DALAnomalyLib.progress import CancelToken

RESULT_FILES = ("brain_mask.nii.gz", *INTERMEDIATE_FILES, QUALITY_FILE, "manifest.json")


def preprocess(
    scan: Annotated[Path, typer.Argument(help="Raw scan: NIfTI, NRRD, MetaImage, or a DICOM folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    sequence: Annotated[str, typer.Option(help="auto, T1 or T2.")] = "auto",
    brain_mask: Annotated[Path | None, typer.Option(help="Brain mask on the scan's own grid.")] = None,
    series: Series = None,
    skip: Skip = None,
    preprocessed: Preprocessed = False,
    brain_extraction: BrainExtraction = "auto",
    registration: Registration = None,
    window: Window = None,
    atlas: AtlasFolder = None,
    model: Annotated[Path | None, typer.Option(help="Model file instead of the one that is shipped.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<number>.")] = "auto",
    no_cache: NoCache = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an older result.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an error.")] = False,
) -> None:
    """Bring a raw scan to the model's grid and scale: brain mask, bias field, atlas space, intensities, qc.png."""
    reporter = reporting.make_reporter(quiet, as_json, debug)
    with reporting.exit_with_message(reporter):
        options = PreprocessingOptions(
            skip, preprocessed, brain_extraction, registration, window, False, atlas, series, not no_cache
        )
        _preprocess(scan, output, sequence, brain_mask, options, model, device, force, reporter)


def _preprocess(
    source: Path,
    final: Path,
    sequence: str,
    brain_mask: Path | None,
    options: PreprocessingOptions,
    model: Path | None,
    device: str,
    force: bool,
    reporter: reporting.Reporter,
) -> None:
    import DALAnomalyCLI.quality_picture  # noqa: F401  (without matplotlib, fail before the work is done)
    from DALAnomalyLib.preprocessing.chain import ScanRequest
    from DALAnomalyLib.volume_io import describe_scan, read_mask, read_volume, write_volume

    started, token = datetime.now(timezone.utc), CancelToken()
    with reporting.cancel_on_signals(token), result_folder(final, RESULT_FILES, force) as folder:
        reporter.progress(str(source), "reading", 0.0)
        volume = read_volume(source, series=options.series, sequence=sequence, cancel=token)
        request = ScanRequest(
            volume=volume,
            sequence=sequence,
            brain_mask=None if brain_mask is None else read_mask(brain_mask, volume.grid),
            description=describe_scan(source, options.series, sequence, token),
            extraction=options.extraction_method,
        )
        detector = options.load_detector(model, device)
        config = options.over(detector.metadata.config.preprocessing)
        with reporting.naming(source):
            prepared = detector.prepare(
                request, config, lambda stage, part: reporter.progress(str(source), stage, 0.05 + 0.75 * part), token
            )
        reporter.progress(str(source), "writing", 0.8)
        with writing(final):
            write_volume(prepared.brain_mask, folder / "brain_mask.nii.gz")
            write_intermediate(folder, prepared, detector)
            write_quality_file(folder, prepared, detector, manifest.shown_name(source))
            record: dict[str, Any] = {
                "tool": "DALAnomaly",
                "manifest_version": manifest.MANIFEST_VERSION,
                "notice": reporting.RESEARCH_USE,
                "versions": manifest.versions(),
                "input": manifest.describe_input(source),
                "sequence": prepared.sequence,
                "steps": manifest.steps(prepared.steps),
                "warnings": manifest.plain(prepared.warnings),
                "times": manifest.describe_times(started),
                "outputs": manifest.file_digests(folder),
            }
            text = json.dumps(record, indent=2, allow_nan=False)
            (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")
        token.raise_if_cancelled()
    lines = [f"{manifest.shown_name(source)}: {prepared.sequence}, {record['times']['seconds']:.0f} s"]
    lines += [f"  {step.name.replace('_', ' ')}: {step.evidence}" for step in prepared.steps if step.evidence]
    lines += [f"  warning: {warning}" for warning in prepared.warnings]
    summary = {key: record[key] for key in ("sequence", "steps", "warnings")} | {"output": str(final)}
    reporter.result(str(source), summary, "\n".join([*lines, f"  -> {final}"]))
