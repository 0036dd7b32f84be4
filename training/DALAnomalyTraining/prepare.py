"""Building a training pack from label maps and healthy scans (the only training code that reads images)."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import torch
from scipy import ndimage

from DALAnomalyLib.errors import GeometryError, InputError
from DALAnomalyLib.job.failures import one_line
from DALAnomalyLib.preprocessing.already_stripped import stripped_evidence
from DALAnomalyLib.preprocessing.bias_field import estimate_bias_field
from DALAnomalyLib.preprocessing.brain_mask import foreground_mask
from DALAnomalyLib.preprocessing.equipment import Equipment
from DALAnomalyLib.progress import CancelToken
from DALAnomalyLib.volume import Volume
from DALAnomalyLib.volume_io import read_mask
from DALAnomalyLib.volume_io.sitk_volume import from_sitk, to_sitk
from DALAnomalyTraining.label_classes import CLASSES, COUNT, OUTER_CSF, SAME_APPEARANCE, to_classes
from DALAnomalyTraining.labelled_images import cropped, like, read_image, registration_image, rigid_pose, some_brain
from DALAnomalyTraining.pack import PackWriter
from DALAnomalyTraining.raw_pairs import need_placing, place_together, read_scans
from DALAnomalyTraining.subject_cache import PackedSubject, SubjectCache, subject_key, write_skipped
from DALAnomalyTraining.subjects import IXI_SEQUENCES, Subject, describe

SULCUS_MM = 4.0
"""Gaps in a brain narrower than twice this are sulci: label maps without outer CSF get it there."""
BOX_MARGIN_VOXELS = 1
CACHE_FOLDER = "subjects"
"""In the folder of the pack: finished raw subjects."""
DEPTH_MM = 170.0
"""What lies further below the top of the brain is neck, which no model grid reaches."""


@dataclass(frozen=True)
class Prepared:
    """What became of the subjects that were to be packed."""

    size: int
    """Bytes of the pack's arrays."""
    packed: list[Subject]
    skipped: list[tuple[Subject, str]]
    """Raw subjects that could not be prepared, with the reason."""


def read_priors(folder: Path) -> dict[str, list[list[list[float]]]]:
    """Measured intensity priors of T1 and T2 (SynthSR's files): [means, deviations] x [value, spread] x class."""
    labels, classes = (_read_array(folder / f"synthsr_generation_{what}.npy") for what in ("labels", "classes"))
    rows = dict(zip(labels.tolist(), classes.tolist(), strict=True))

    def rearranged(file: str) -> list[list[float]]:
        table = _read_array(folder / file)
        columns = np.zeros((2, COUNT))
        for number in range(1, COUNT):
            first_label = CLASSES[SAME_APPEARANCE.get(number, number) - 1].freesurfer[0]
            columns[:, number] = table[:, rows.get(first_label, 0)]
        return [row.tolist() for row in columns]

    names = {"T1": "t1_hr", "T2": "t2"}
    return {
        sequence: [rearranged(f"synthsr_prior_{what}_{name}.npy") for what in ("means", "stds")]
        for sequence, name in names.items()
    }


def prepare(
    subjects: list[Subject],
    priors: dict[str, list[list[list[float]]]],
    folder: Path,
    spacing: float,
    pose: Path | None,
    report: Callable[[str, int, int], None],
    workers: int = 2,
    n4: bool = True,
    device: torch.device | None = None,
) -> Prepared:
    """Align every subject, resample it into the pack's frame and write the pack.

    Finished raw subjects are kept in `folder`/subjects, so that a second call takes up where a first one stopped; raw
    subjects that were skipped are listed in `folder`/skipped.csv.

    Args:
        subjects: What to pack.
        priors: See `read_priors`; empty when all subjects are real pairs.
        folder: The pack.
        spacing: Millimetres of the pack's voxels; subjects scanned coarser keep their own spacing.
        pose: A skull-stripped T1 whose upright pose all subjects take by rigid registration. Without it poses stay.
        report: Called with a name, the number done and the number of all.
        workers: Subjects worked on at once.
        n4: Take the bias field out of real scans, as is done at detection. Raw heads always lose it.
        device: Where the brains of raw heads are outlined; without it, on the CPU.

    Raises:
        InputError: A subject that is not raw, or every one that is, cannot be prepared.
    """
    threads = torch.get_num_threads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    torch.set_num_threads(max(1, threads // workers))
    template = registration_image(read_image(pose)) if pose else None
    tools = _Tools(spacing, template, n4, Equipment(device=device), SubjectCache(folder / CACHE_FOLDER), CancelToken())
    writer = PackWriter("", priors)
    packed: list[Subject] = []
    skipped: list[tuple[Subject, str]] = []
    with ThreadPoolExecutor(workers) as pool:
        try:
            results = pool.map(lambda subject: _packed_or_reason(subject, tools), subjects)
            for done, (subject, result) in enumerate(zip(subjects, results, strict=True), start=1):
                if isinstance(result, str):
                    skipped.append((subject, result))
                else:
                    labels, images, origin, steps = result
                    packed.append(subject)
                    writer.add(subject.name, subject.source, labels, images, (steps,) * 3, origin, subject.group)
                report(subject.name, done, len(subjects))
        except BaseException:
            tools.cancel.cancel()  # an interruption need not wait for minutes
            raise
        finally:
            torch.set_num_threads(threads)
    if not packed:
        tools.cache.discard_if_empty()
        msg = f"none of {len(subjects)} subjects can be prepared. {_first_reasons(skipped)}"
        raise InputError(msg)
    writer.description = describe(packed)
    size = writer.write(folder)
    write_skipped(folder, [(subject.name, reason) for subject, reason in skipped])
    return Prepared(size, packed, skipped)


@dataclass(frozen=True)
class _Tools:
    """What all subjects of a pack are prepared with."""

    spacing: float
    template: sitk.Image | None
    n4: bool
    equipment: Equipment
    cache: SubjectCache
    cancel: CancelToken


def _packed_or_reason(subject: Subject, tools: _Tools) -> PackedSubject | str:
    """The subject's arrays, or why it has none: of hundreds of raw subjects a few may fail."""
    tools.cancel.raise_if_cancelled()
    if not subject.raw:
        return _pack_subject(subject, tools)
    try:
        return _pack_raw(subject, tools)
    except (InputError, GeometryError) as error:
        return one_line(error)
    except RuntimeError as error:  # ITK's own complaint about an image that none of our checks saw through
        return f"{subject.name}: {one_line(error)}"


def _first_reasons(skipped: list[tuple[Subject, str]]) -> str:
    shown = "; ".join(f"{subject.name}: {reason}" for subject, reason in skipped[:3])
    return shown + (f"; and {len(skipped) - 3} more" if len(skipped) > 3 else "")


def _pack_raw(subject: Subject, tools: _Tools) -> PackedSubject:
    missing = [name for name in IXI_SEQUENCES if name not in subject.images]
    if missing:
        msg = f"no {' and no '.join(missing)} scan of this name"
        raise InputError(msg)
    key = subject_key(subject.images, tools.spacing, tools.n4, tools.template, tools.equipment)
    kept = tools.cache.get(key)
    if kept is not None:
        return kept
    scans = read_scans(subject.images)
    if need_placing(scans):
        placed = place_together(scans, subject.images, tools.equipment, tools.cancel)
        images = {name: to_sitk(image) for name, image in placed.images.items()}
        classes = to_sitk(placed.brain.with_array(np.where(placed.brain.array > 0, OUTER_CSF, 0).astype(np.uint8)))
        packed = _pack_images(subject, classes, images, tools)
    else:
        packed = _pack_subject(subject, tools)
    tools.cache.put(key, packed)
    return packed


def _pack_subject(subject: Subject, tools: _Tools) -> PackedSubject:
    images = {name: read_image(path) for name, path in subject.images.items()}
    classes = _read_classes(subject, images)
    if tools.n4:
        images = {name: _unbiased(image, classes) for name, image in images.items()}
    return _pack_images(subject, classes, images, tools)


def _pack_images(subject: Subject, classes: sitk.Image, images: dict[str, sitk.Image], tools: _Tools) -> PackedSubject:
    """Resample classes and images, which share a space but not necessarily a grid, into an upright box."""
    pose = rigid_pose(classes, tools.template) if tools.template is not None else sitk.Euler3DTransform()
    steps = max(tools.spacing, *classes.GetSpacing()) if images else tools.spacing
    grid = _box_in_pose(classes, pose, steps)
    labels = sitk.GetArrayFromImage(sitk.Resample(classes, grid, pose, sitk.sitkLabelGaussian, 0, sitk.sitkUInt8))
    brain = labels > 0
    packed = {}
    for name, image in images.items():
        values = _resampled_brain(image, classes, grid, pose)
        low, high = np.percentile(values[brain], (0.1, 99.9))
        if not high > low:
            msg = f"{subject.images[name]} has the same intensity everywhere in the brain; leave it out"
            raise InputError(msg)
        # 1..255 inside the brain; the standard scale is found again at training time
        packed[name] = np.where(brain, 1 + 254 * np.clip((values - low) / (high - low), 0, 1), 0).astype(np.uint8)
    top = int(np.argwhere(brain)[:, 0].max())
    bottom = max(0, top - round(DEPTH_MM / steps))
    labels, packed = labels[bottom:], {name: image[bottom:] for name, image in packed.items()}
    inside = np.argwhere(labels > 0)
    centre = (inside.min(0) + inside.max(0)) / 2
    origin = (-centre[2] * steps, -centre[1] * steps, -float(top - bottom) * steps)
    return labels, packed, origin, steps


def _read_classes(subject: Subject, images: dict[str, sitk.Image]) -> sitk.Image:
    """The subject's label classes; real pairs have only brain or not, packed as outer CSF."""
    if subject.source == "paired":
        first = next(iter(images.values()))
        if not all(_same_grid(image, first) for image in images.values()):
            msg = f"{subject.name}: its scans lie on different grids; resample them to one grid first"
            raise InputError(msg)
        scan = from_sitk(first)
        mask = read_mask(subject.labels, scan.grid) if subject.labels else _stripped_brain(scan, subject)
        filled = ndimage.binary_fill_holes(mask.array)
        return like(some_brain(np.where(filled, OUTER_CSF, 0).astype(np.uint8), subject.name, "paired"), first)
    assert subject.labels is not None
    labels = read_image(subject.labels)
    numbers = sitk.GetArrayFromImage(labels).astype(np.int64)
    brain = cropped(like(some_brain(to_classes(numbers, subject.scheme), subject.labels, subject.scheme), labels))
    return like(_fill_sulci(sitk.GetArrayFromImage(brain), brain.GetSpacing()[::-1]), brain)


def _stripped_brain(scan: Volume, subject: Subject) -> Volume:
    check = stripped_evidence(scan)
    if not check.is_stripped:
        msg = f"{subject.name}: is not skull-stripped ({check.evidence}); name its brain mask in the column brain_mask"
        raise InputError(msg)
    return foreground_mask(scan)


def _unbiased(image: sitk.Image, classes: sitk.Image) -> sitk.Image:
    """The image without the drift that N4 finds inside the brain (section 4.1.2)."""
    scan = from_sitk(image)
    return to_sitk(estimate_bias_field(scan, from_sitk(_brain_on(image, classes))).correct(scan))


def _brain_on(image: sitk.Image, classes: sitk.Image) -> sitk.Image:
    return sitk.Resample(classes > 0, image, sitk.Transform(), sitk.sitkNearestNeighbor)


def _resampled_brain(
    image: sitk.Image, classes: sitk.Image, grid: sitk.Image, pose: sitk.Transform
) -> npt.NDArray[np.float32]:
    """The image over what is brain in it: as in detection, what lies around it must not change its border."""
    inside = sitk.Cast(_brain_on(image, classes), sitk.sitkFloat32)
    values, share = (
        sitk.GetArrayFromImage(sitk.Resample(part, grid, pose, sitk.sitkLinear, 0.0, sitk.sitkFloat32))
        for part in (sitk.Cast(image, sitk.sitkFloat32) * inside, inside)
    )
    resampled: npt.NDArray[np.float32] = values / np.maximum(share, 1e-3)
    return resampled


def _same_grid(first: sitk.Image, second: sitk.Image) -> bool:
    return first.GetSize() == second.GetSize() and all(
        np.allclose(getattr(first, name)(), getattr(second, name)(), atol=1e-3)
        for name in ("GetSpacing", "GetOrigin", "GetDirection")
    )


def _fill_sulci(classes: npt.NDArray[np.uint8], spacing: tuple[float, ...]) -> npt.NDArray[np.uint8]:
    """Give every gap inside the brain's closed outline to the outer CSF; voxels measure `spacing` mm (D, H, W)."""
    finest = min(spacing)
    reach = max(1, round(SULCUS_MM / finest)) * finest
    margins = [math.ceil(reach / size) + 1 for size in spacing]
    padded = np.pad(classes > 0, [(margin, margin) for margin in margins])
    # by distance, because iterated dilation of a 256^3 volume takes minutes
    dilated = ndimage.distance_transform_edt(~padded, sampling=spacing) <= reach
    closed = ndimage.distance_transform_edt(dilated, sampling=spacing) > reach
    inner = tuple(slice(margin, -margin) for margin in margins)
    return np.where((classes == 0) & closed[inner], OUTER_CSF, classes).astype(np.uint8)


def _box_in_pose(classes: sitk.Image, pose: sitk.Transform, spacing: float) -> sitk.Image:
    """An empty upright image that just holds the brain, in the template's space."""
    inside = np.argwhere(sitk.GetArrayViewFromImage(classes) > 0)[:, ::-1]
    matrix = np.array(classes.GetDirection()).reshape(3, 3) * np.array(classes.GetSpacing())
    points = inside[:: max(1, len(inside) // 200_000)] @ matrix.T + np.array(classes.GetOrigin())
    inverse = pose.GetInverse()
    rotation = np.array([inverse.TransformVector(axis, (0.0, 0.0, 0.0)) for axis in np.eye(3).tolist()]).T
    shift = np.array(inverse.TransformPoint((0.0, 0.0, 0.0)))
    placed = points @ rotation.T + shift
    low = placed.min(0) - BOX_MARGIN_VOXELS * spacing
    size = np.ceil((placed.max(0) + BOX_MARGIN_VOXELS * spacing - low) / spacing).astype(int) + 1
    grid = sitk.Image(size.tolist(), sitk.sitkUInt8)
    grid.SetOrigin(low.tolist())
    grid.SetSpacing([spacing] * 3)
    return grid


def _read_array(path: Path) -> npt.NDArray[np.generic]:
    try:
        array: npt.NDArray[np.generic] = np.load(path)
    except (OSError, ValueError) as error:
        msg = f"{path} cannot be read as an array of intensity priors ({error}); check the folder of priors"
        raise InputError(msg) from error
    return array
