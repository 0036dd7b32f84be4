"""`dal-anomaly build-atlas`: a group atlas from label maps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from DALAnomalyCLI import option, reporting
from DALAnomalyLib.job.result_folder import result_folder
from DALAnomalyLib.wording import counted


def build_atlas(
    label_maps: Annotated[list[Path], typer.Option(help="Folder of FreeSurfer label maps; repeatable.")],
    priors: Annotated[Path, typer.Option(help="Folder of measured T1 and T2 intensity priors (SynthSR's files).")],
    pose: Annotated[
        Path, typer.Option(help="Skull-stripped T1 in the pose of the BraTS scans (SRI24), which the atlas takes.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the atlas.")],
    rounds: Annotated[int, typer.Option(help="Rounds of deformable averaging; 0: affine.", min=0, max=20)] = 4,
    spacing: Annotated[float, typer.Option(help="Voxel size in mm of the deformation.", min=1.0, max=20.0)] = 2.5,
    smoothing: Annotated[
        float, typer.Option(help="Smoothness of the deformation in its voxels.", min=0.5, max=5.0)
    ] = 1.5,
    subjects_limit: Annotated[
        int | None, typer.Option(help="Use only this many subjects of each folder, the first by name.", min=1)
    ] = None,
    workers: option.Workers = 1,
    force: option.Force = False,
    debug: option.Debug = False,
) -> None:
    """Build an unbiased group atlas (T1, T2, tissues, brain mask) from label maps."""
    reporter = reporting.make_reporter(debug=debug)
    with reporting.exit_with_message(reporter):
        from DALAnomalyTraining import build_atlas as building
        from DALAnomalyTraining.prepare import read_priors
        from DALAnomalyTraining.subjects import label_map_subjects

        subjects = [subject for folder in label_maps for subject in label_map_subjects([folder])[:subjects_limit]]
        settings = building.AtlasSettings(rounds, spacing, smoothing)
        # names without their folders: where somebody keeps files is nobody else's business
        named = [("--label-maps", folder) for folder in label_maps] + [("--priors", priors), ("--pose", pose)]
        options = " ".join(f"{option} {path.resolve().name}" for option, path in named)
        limit = f" --subjects-limit {subjects_limit}" if subjects_limit else ""
        command = (
            f"dal-anomaly build-atlas {options} --rounds {rounds} --spacing {spacing} --smoothing {smoothing}{limit}"
        )
        with result_folder(output, building.FILES, force) as folder:
            size = building.build_atlas(
                subjects,
                read_priors(priors),
                pose,
                folder,
                settings,
                lambda step, done, count: reporter.progress(str(output), f"{step} ({done}/{count})", done / count),
                workers,
                command=command,
            )
        summary = {"subjects": len(subjects), "bytes": size}
        reporter.result(str(output), summary, f"{output}: {counted(len(subjects), 'subject')}, {size / 2**20:.2f} MiB")
