"""From a raw scan to one whose brain, bias field and place in the atlas are known (section 4.1.2 of the paper).

Nothing is resampled on the way: axes are reordered, the bias field is divided out in place, and registration changes
the header only. The one interpolation follows when the model grid is filled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from DALAnomalyLib.configuration import PreprocessingConfig
from DALAnomalyLib.errors import GeometryError, InputError
from DALAnomalyLib.preprocessing.atlas_trim import trim_to_atlas
from DALAnomalyLib.preprocessing.bias_field import BiasField, estimate_bias_field
from DALAnomalyLib.preprocessing.brain_mask import foreground_mask
from DALAnomalyLib.preprocessing.equipment import Equipment
from DALAnomalyLib.preprocessing.extraction_choice import ExtractionMethod, FoundBrain, binary, find_brain
from DALAnomalyLib.preprocessing.registration import Registration, register_rigidly
from DALAnomalyLib.preprocessing.reorient import from_anatomical_order, to_anatomical_order
from DALAnomalyLib.preprocessing.step_cache import cache_key, volume_digest
from DALAnomalyLib.preprocessing.steps import StepLog
from DALAnomalyLib.rigid_transform import RigidTransform
from DALAnomalyLib.volume import AnyArray, Grid, Volume
from DALAnomalyLib.volume_io import ScanDescription
from DALAnomalyLib.volume_io.scan_checks import check_finite, check_shape

CACHE_VERSION = 2
"""Raised when a step's algorithm changes, so that no older result is taken for a new one."""
PLAUSIBLE_BRAIN_ML = (600.0, 2200.0)
CUT_SHARE = 0.004
"""Share of the brain's voxels on the faces of the scan from which the brain seems cut off."""
LARGE_ROTATION_DEGREES = 60.0
THICK_SLICES_MM = 7.0
MUCH_LARGER = 1.1
"""A second outline larger than the first by more than this factor is worse."""
MUCH_TRIMMED = 0.03
"""Share of a brain outline from which cutting it to the atlas' reach is worth a warning."""
_SUBSTITUTE = "T1"
"""The atlas image for sequences that the atlas lacks: on FLAIR, too, fluid is dark."""


@dataclass(frozen=True, eq=False)
class ScanRequest:
    """What is asked about a scan.

    Attributes:
        volume: the scan as it was read.
        sequence: "T1", "T2" or "auto".
        brain_mask: on the scan's grid, above 0.5 inside; without one the brain is looked for.
        description: what the file's header says.
        extraction: how the brain is looked for.
    """

    volume: Volume
    sequence: str = "auto"
    brain_mask: Volume | None = None
    description: ScanDescription | None = None
    extraction: ExtractionMethod = "auto"


@dataclass(frozen=True, eq=False)
class PlacedScan:
    """A scan in anatomical order whose brain, bias field and place in the atlas are known.

    Attributes:
        original: the grid of the scan as it was read.
        scan: in anatomical order, its own intensities.
        corrected: the same without its bias field.
        gain: float32, scan = corrected x gain; 1 outside the brain's surroundings.
        brain: uint8.
        rough_brain: whether the mask is only a guess.
        to_atlas: from the scan's LPS mm to the atlas'.
        registration: how that was found; None when it was skipped.
    """

    original: Grid
    scan: Volume
    corrected: Volume
    gain: npt.NDArray[np.float32]
    brain: Volume
    rough_brain: bool
    to_atlas: RigidTransform
    registration: Registration | None

    @property
    def in_atlas(self) -> bool:
        """Whether the place in the atlas can be relied on."""
        return self.registration is not None and self.registration.accepted

    def as_read(self, array: AnyArray) -> Volume:
        """A result (D, H, W) on this scan's grid, its axes in the order of the scan as it was read."""
        result = Volume(array, self.brain.grid)
        return result if self.brain.grid == self.original else from_anatomical_order(result, self.original)

    @property
    def moved(self) -> Volume:
        """The corrected scan lying in atlas space."""
        return self.to_atlas.move(self.corrected)

    @property
    def moved_brain(self) -> Volume:
        """Its brain lying in atlas space."""
        return self.to_atlas.move(self.brain)


def place_scan(
    request: ScanRequest,
    likely_sequence: Callable[[Volume, Volume], str],
    config: PreprocessingConfig,
    equipment: Equipment,
    log: StepLog,
) -> PlacedScan:
    """Run the steps up to registration.

    Args:
        request: the scan.
        likely_sequence: from the corrected scan and its brain, the sequence whose atlas image it is registered to.
        config: the model's choices.
        equipment: atlas, network, cache.
        log: receives what every step did, and warnings.

    Raises:
        InputError: there is no brain.
        GeometryError: the mask lies on another grid.
        CancelledError: the log's token was turned on.
    """
    if request.brain_mask is not None and not request.volume.grid.is_close(request.brain_mask.grid):
        msg = (
            f"the brain mask is on {request.brain_mask.grid} but its scan on {request.volume.grid}; "
            "resample the mask to the scan"
        )
        raise GeometryError(msg)
    check_shape(request.volume.array.shape, "the scan")
    check_finite(request.volume.array, "the scan")
    if request.brain_mask is not None:
        check_finite(request.brain_mask.array, "the brain mask")
    if request.description is not None and request.description.orientation_doubt is not None:
        log.warn(request.description.orientation_doubt)
    scan, given = _reordered(request, log)
    digest = volume_digest(scan)
    found = _find_brain(scan, given, request.extraction, equipment, log, digest)
    corrected, gain = _without_bias(scan, found.mask, equipment, log, digest)
    registration = _register(corrected, found, likely_sequence, config, equipment, log)
    if config.second_outline and found.method == "network" and registration is not None and registration.accepted:
        first, records = (found, corrected, gain, registration), list(log.records)
        try:
            found = _find_brain_upright(scan, registration.transform, equipment, log)
            corrected, gain = _without_bias(scan, found.mask, equipment, log, digest)
            registration = _register(corrected, found, likely_sequence, config, equipment, log)
            growth = found.mask.array.sum() / first[0].mask.array.sum()
            better = registration is not None and registration.accepted and growth <= MUCH_LARGER
        except InputError:
            better = False
        if not better:  # thick oblique slices can look worse upright, and the network errs outwards
            for record, again in zip(records, log.records, strict=True):
                record.seconds = again.seconds  # what was tried in vain took its time, too
            (found, corrected, gain, registration), log.records = first, records
    if registration is not None:
        _check_registration(registration, log)
    brain = _trimmed(found, registration, equipment, log)
    _check_brain(brain, log)
    return PlacedScan(
        original=request.volume.grid,
        scan=scan,
        corrected=corrected,
        gain=gain,
        brain=brain,
        rough_brain=found.rough,
        to_atlas=registration.transform if registration and registration.accepted else RigidTransform(),
        registration=registration,
    )


def _reordered(request: ScanRequest, log: StepLog) -> tuple[Volume, Volume | None]:
    with log.step("reorient") as record:
        volume, mask = request.volume, request.brain_mask
        if mask is not None:  # on the very same grid: one at 45 degrees may be ordered either way
            mask = Volume(mask.array, volume.grid)
        if not log.skips("reorient"):
            volume = to_anatomical_order(volume)
            mask = None if mask is None else to_anatomical_order(mask)
        record.parameters = {"order": "LPS", "shape_kji": list(volume.grid.shape)}
    return Volume(volume.array.astype(np.float32, copy=False), volume.grid), mask


def _find_brain(
    scan: Volume, given: Volume | None, method: ExtractionMethod, equipment: Equipment, log: StepLog, digest: str
) -> FoundBrain:
    with log.step("brain_extraction") as record:
        if given is not None:
            found = FoundBrain(binary(Volume(given.array, scan.grid)), "given", "mask given by the user")
        elif log.skips("brain_extraction"):
            found = FoundBrain(foreground_mask(scan), "stripped", "the scan's foreground")
        else:
            found, cached = _remembered_brain(scan, method, equipment, log, digest)
            record.status = "cached" if cached else "done"
        record.parameters = {"method": found.method}
        record.evidence = found.evidence
    if found.rough:
        log.warn("the brain mask is rough (the atlas' own, not this brain's outline); give a mask for reliable results")
    return found


def _find_brain_upright(scan: Volume, to_atlas: RigidTransform, equipment: Equipment, log: StepLog) -> FoundBrain:
    """Outline the brain once more, in a pose that no longer depends on how the head was held."""
    upright = to_atlas.move(scan)
    with log.step("brain_extraction") as record:
        found, cached = _remembered_brain(upright, "network", equipment, log, volume_digest(upright))
        record.status = "cached" if cached else "done"
        record.parameters = {"method": found.method, "upright": True}
        record.evidence = f"{found.evidence}, in the atlas' pose"
    return FoundBrain(scan.with_array(found.mask.array), found.method, record.evidence)


def _remembered_brain(
    scan: Volume, method: ExtractionMethod, equipment: Equipment, log: StepLog, digest: str
) -> tuple[FoundBrain, bool]:
    notes: list[FoundBrain] = []

    def compute() -> dict[str, AnyArray]:
        notes.append(find_brain(scan, None, method, equipment, log.cancel))
        text = "\n".join((notes[0].method, notes[0].evidence, str(int(notes[0].rough))))
        return {"bits": np.packbits(notes[0].mask.array), "note": np.frombuffer(text.encode(), np.uint8)}

    key = cache_key(CACHE_VERSION, "brain", digest, method, *_extraction_digests(method, equipment))
    kept, cached = equipment.remembered(key, compute)
    if notes:
        return notes[0], False
    how, evidence, rough = bytes(kept["note"]).decode().split("\n")
    mask = np.unpackbits(kept["bits"], count=scan.array.size).reshape(scan.array.shape)
    return FoundBrain(scan.with_array(mask), how, evidence, rough == "1"), cached


def _extraction_digests(method: ExtractionMethod, equipment: Equipment) -> list[str]:
    """What a mask depends on besides the scan; an external tool is known by its name only."""
    digests = []
    for name, load in (("network", equipment.extractor), ("atlas", equipment.atlas)):
        if method in (name, "auto"):
            try:
                digests.append(load().digest)
            except Exception as error:  # the step itself will say what is missing
                digests.append(type(error).__name__)
    return digests


def _check_brain(brain: Volume, log: StepLog) -> None:
    voxels = int(brain.array.sum(dtype=np.int64))
    size = voxels * brain.grid.voxel_volume_ml
    low, high = PLAUSIBLE_BRAIN_ML
    if not low <= size <= high:
        log.warn(f"the brain measures {size:.0f} ml, expected {low:.0f} to {high:.0f}; look at its outline")
    faces = [np.take(brain.array, end, axis) for axis in range(3) for end in (0, -1)]
    if sum(int(face.sum()) for face in faces) > CUT_SHARE * voxels:
        log.warn("the brain is cut off by the edge of the scan; what is missing gets no score")
    thickest = max(brain.grid.spacing)
    if thickest > THICK_SLICES_MM:
        log.warn(
            f"slices of {thickest:.1f} mm are thicker than anything the model was tried on; small findings are lost"
        )


def _without_bias(
    scan: Volume, brain: Volume, equipment: Equipment, log: StepLog, digest: str
) -> tuple[Volume, npt.NDArray[np.float32]]:
    with log.step("n4") as record:
        if log.skips("n4"):
            return scan, np.ones((1, 1, 1), np.float32)
        made: list[BiasField] = []

        def compute() -> dict[str, AnyArray]:
            made.append(estimate_bias_field(scan, brain, cancel=log.cancel))
            ends = [[side.start, side.stop] for side in made[0].box]
            return {"field": made[0].log_field, "box": np.array(ends), "strength": np.array(made[0].strength)}

        key = cache_key(CACHE_VERSION, "n4", digest, volume_digest(brain))
        kept, cached = equipment.remembered(key, compute)
        a, b, c = (slice(int(start), int(stop)) for start, stop in kept["box"])
        field = BiasField(kept["field"], (a, b, c), float(kept["strength"]))
        record.status = "cached" if cached else "done"
        record.parameters = {"shrunk_to_mm": 4, "strength": round(field.strength, 3)}
        record.evidence = f"bias field spans a factor of {np.exp(field.strength):.2f} within the brain"
        gain = np.ones(scan.array.shape, np.float32)
        gain[field.box] = np.exp(field.log_field.astype(np.float32))
        return field.correct(scan), gain


def _register(
    corrected: Volume,
    found: FoundBrain,
    likely_sequence: Callable[[Volume, Volume], str],
    config: PreprocessingConfig,
    equipment: Equipment,
    log: StepLog,
) -> Registration | None:
    with log.step("registration") as record:
        if log.skips("registration"):
            return None
        atlas = equipment.atlas()
        likely = likely_sequence(corrected, found.mask)
        if likely not in atlas.images:
            likely = _SUBSTITUTE
        digests = (volume_digest(corrected), volume_digest(found.mask), atlas.digest)
        made: list[Registration] = []

        def compute() -> dict[str, AnyArray]:
            made.append(
                register_rigidly(
                    corrected,
                    found.mask,
                    atlas.images[likely],
                    atlas.brain_mask,
                    backend=config.registration_backend,
                    cancel=log.cancel,
                )
            )
            return _packed(made[0])

        key = cache_key(CACHE_VERSION, "registration", *digests, likely, config.registration_backend)
        kept, cached = equipment.remembered(key, compute)
        registration = made[0] if made else _unpacked(kept, config)
        record.status = ("cached" if cached else "done") if registration.accepted else "failed"
        record.parameters = {
            "backend": registration.backend,
            "atlas": atlas.name,
            "sequence": likely,
            "similarity": round(registration.similarity, 3),
            "brain_overlap": round(registration.brain_overlap, 3),
            "rotation": [round(value, 6) for value in registration.transform.rotation],
            "translation_mm": [round(value, 3) for value in registration.transform.translation],
        }
        record.evidence = registration.evidence
    return registration


def _check_registration(registration: Registration, log: StepLog) -> None:
    if not registration.accepted:
        log.warn(f"registration to the atlas failed ({registration.evidence}); the scan's own axes are used instead")
    elif registration.transform.angle_degrees > LARGE_ROTATION_DEGREES:
        angle = registration.transform.angle_degrees
        log.warn(f"the head had to be turned by {angle:.0f} degrees; check the orientation in the scan's header")


def _trimmed(found: FoundBrain, registration: Registration | None, equipment: Equipment, log: StepLog) -> Volume:
    """Take off a network's outline what no brain reaches: eyes, neck."""
    if found.method != "network" or registration is None or not registration.accepted:
        return found.mask
    moved, share = trim_to_atlas(registration.transform.move(found.mask), equipment.atlas().brain_mask)
    log.record("registration").parameters["brain_trimmed_share"] = round(share, 4)
    if share > MUCH_TRIMMED:
        log.warn(f"{share:.0%} of the brain outline lay far outside the atlas' brain and was cut off; look at qc.png")
    return found.mask.with_array(moved.array)


def _packed(registration: Registration) -> dict[str, AnyArray]:
    numbers = (registration.similarity, registration.brain_overlap, registration.starts, registration.accepted)
    transform = registration.transform
    return {
        "transform": np.array([*transform.rotation, *transform.translation]),
        "numbers": np.array(numbers, dtype=np.float64),
        "evidence": np.frombuffer(registration.evidence.encode(), np.uint8),
    }


def _unpacked(kept: dict[str, AnyArray], config: PreprocessingConfig) -> Registration:
    values = kept["transform"].tolist()
    similarity, overlap, starts, accepted = kept["numbers"].tolist()
    return Registration(
        transform=RigidTransform(tuple(values[:9]), (values[9], values[10], values[11])),
        similarity=similarity,
        brain_overlap=overlap,
        starts=int(starts),
        backend=config.registration_backend,
        accepted=bool(accepted),
        evidence=bytes(kept["evidence"]).decode(),
    )
