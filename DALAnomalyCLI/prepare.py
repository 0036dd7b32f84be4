"""`dal-anomaly prepare` and `dal-anomaly sample`: training packs, and a synthetic subject to try things on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from DALAnomalyCLI import option, reporting
from DALAnomalyLib.errors import OutputError, UsageError
from DALAnomalyLib.job.result_folder import writing, writing_into
from DALAnomalyLib.wording import counted


def prepare(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the pack.")],
    label_maps: Annotated[list[Path] | None, typer.Option(help="Folder of FreeSurfer label maps; repeatable.")] = None,
    labelled_t1: Annotated[
        Path | None, typer.Option(help="Folder of NAME_T1.nii.gz with NAME_labels.nii.gz (MUSE labels).")
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="CSV of real paired scans: subject, T1, T2, ..., optional brain_mask.")
    ] = None,
    ixi: Annotated[
        Path | None, typer.Option(help="IXI as downloaded: folder with IXI-T1 and IXI-T2, or with the scans of both.")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Name in the T1 folder to leave out; repeatable.")] = None,
    priors: Annotated[
        Path | None, typer.Option(help="Folder of measured T1 and T2 intensity priors (SynthSR's files).")
    ] = None,
    pose: Annotated[
        Path | None, typer.Option(help="Skull-stripped T1 whose upright pose all subjects take; only for alignment.")
    ] = None,
    spacing: Annotated[
        float | None,
        typer.Option(help="Voxel size of the pack in mm: 1.75, or 1.25 for real pairs alone.", min=0.5, max=5.0),
    ] = None,
    n4: Annotated[bool, typer.Option(help="Take the bias field out of real scans, as is done at detection.")] = True,
    workers: option.Workers = 2,
    device: Annotated[str, typer.Option(help="Where brains are outlined: auto, cpu or cuda.")] = "cpu",
    force: option.Force = False,
    debug: option.Debug = False,
) -> None:
    """Build a training pack from label maps, labelled T1 scans or real pairs, all in one upright frame."""
    reporter = reporting.make_reporter(debug=debug)
    with reporting.exit_with_message(reporter):
        from DALAnomalyLib.device import resolve_device
        from DALAnomalyTraining import subjects as listing
        from DALAnomalyTraining.prepare import prepare as write_pack
        from DALAnomalyTraining.prepare import read_priors
        from DALAnomalyTraining.subject_cache import SKIPPED_FILE

        if (output / "pack.json").exists() and not force:
            msg = f"{output} already holds a pack; choose another folder or add --force"
            raise OutputError(msg)
        if exclude and labelled_t1 is None:
            msg = "--exclude names subjects of --labelled-t1, which is not given"
            raise UsageError(msg)
        subjects = [
            *listing.label_map_subjects(label_maps or []),
            *(listing.labelled_t1_subjects(labelled_t1, exclude or []) if labelled_t1 else []),
            *(listing.manifest_subjects(pairs) if pairs else []),
            *(listing.ixi_subjects(ixi) if ixi else []),
        ]
        if not subjects:
            msg = "no training data named; give at least one of --label-maps, --labelled-t1, --pairs, --ixi"
            raise UsageError(msg)
        if priors is None and any(subject.source != "paired" for subject in subjects):
            msg = "label maps need intensity priors to become images; name their folder with --priors"
            raise UsageError(msg)
        with writing_into(output):
            prepared = write_pack(
                subjects,
                read_priors(priors) if priors else {},
                output,
                spacing or listing.default_spacing(subjects),
                pose,
                lambda name, done, count: reporter.progress(str(output), f"{name} ({done}/{count})", done / count),
                workers,
                n4,
                resolve_device(device),
            )
        for subject, reason in prepared.skipped:
            reporter.notice(str(output), f"skipped {subject.name}: {reason}")
        count, left_out = len(prepared.packed), len(prepared.skipped)
        summary = {"subjects": count, "skipped": left_out, "bytes": prepared.size}
        text = f"{output}: {counted(count, 'subject')}, {prepared.size / 2**20:.1f} MiB"
        if left_out:
            text += f"; {left_out} skipped, see {output / SKIPPED_FILE}"
        reporter.result(str(output), summary, text)


def sample(
    data: Annotated[Path, typer.Option(help="Pack whose label maps the group atlas is made of.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the sample scans.")],
    seed: Annotated[int, typer.Option(help="Which of the possible subjects.")] = 0,
    debug: option.Debug = False,
) -> None:
    """Make a synthetic subject (T1 and T2 with one lesion) that no real brain is recognisable in."""
    reporter = reporting.make_reporter(debug=debug)
    with reporting.exit_with_message(reporter):
        from DALAnomalyTraining.pack import Pack
        from DALAnomalyTraining.sample_subject import make_sample

        with writing(output):
            paths = make_sample(Pack(data), output, seed)
        reporter.result(str(output), {"files": [path.name for path in paths]}, "\n".join(map(str, paths)))
