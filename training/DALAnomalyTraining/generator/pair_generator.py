"""From the subjects of a pack to batches of paired healthy scans, a different one for every step and slot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from DALAnomalyLib.configuration import GridConfig
from DALAnomalyLib.errors import InputError
from DALAnomalyLib.preprocessing.intensity_standardisation import (
    Landmarks,
    learn_landmarks,
    measure_landmarks,
    standardise,
)
from DALAnomalyTraining.generator.atrophy import random_atrophy
from DALAnomalyTraining.generator.brain_rim import random_brain_mask
from DALAnomalyTraining.generator.deformation import frame_coordinates, random_coordinates
from DALAnomalyTraining.generator.generator_config import GeneratorConfig
from DALAnomalyTraining.generator.imaging_effects import scan
from DALAnomalyTraining.generator.tissue_clusters import cluster_tissues
from DALAnomalyTraining.generator.tissue_intensities import draw_intensities
from DALAnomalyTraining.label_classes import COUNT, OUTER_CSF, TISSUE_OF_CLASS
from DALAnomalyTraining.pack import Pack, Record
from DALAnomalyTraining.randomness import chance, generator_for

CORNER = 0.25
"""Labels are read at 2 x 2 x 2 points of a voxel, this far from its centre; their mean is the partial volume."""


@dataclass(frozen=True)
class PairedBatch:
    """Paired scans of healthy subjects, standardised. There is no place here for a lesion or its label."""

    images: Tensor
    """Float32 (B, S, D, H, W) in [0, 1]: S sequences of each of B subjects, 0 outside the brain."""
    brain: Tensor
    """Float32 (B, 1, D, H, W), 0 or 1."""
    tissues: Tensor
    """Int64 (B, D, H, W): 0 outside, 1 CSF, 2 grey, 3 white matter; -1 inside the brain where it is unknown."""


@dataclass(frozen=True)
class Pictures:
    """One subject before any scanner's effects: the place to put synthetic lesions, for validation alone."""

    images: Tensor
    """Float32 (S, D, H, W), tissue intensities."""
    brain: Tensor
    """Float32 (D, H, W), 0 or 1."""
    tissues: Tensor
    """Int64 (D, H, W), as in `PairedBatch`."""
    record: str
    """Name of the record whose anatomy it is."""


@dataclass(frozen=True)
class _Subject:
    """A record on the device, read once."""

    record: Record
    labels: Tensor
    images: dict[str, Tensor]


class PairGenerator:
    """Draws subjects from a pack and renders them on the model grid, on any device."""

    def __init__(
        self,
        pack: Pack,
        records: list[Record],
        grid: GridConfig,
        sequences: tuple[str, ...],
        config: GeneratorConfig,
        device: torch.device,
        seed: int,
    ) -> None:
        """Load `records` of `pack` onto `device`.

        Raises:
            InputError: No record can give all `sequences`.
        """
        self.grid, self.sequences, self.config, self.device, self.seed = grid, sequences, config, device, seed
        self._priors = pack.priors
        usable = [record for record in records if self._can_render(record)]
        if not usable:
            msg = f"none of the pack's {len(records)} subjects has {', '.join(sequences)} or a prior for them"
            raise InputError(msg)
        self._semi_real = [self._load(pack, record) for record in usable if record.source == "semi_real"]
        self._others = [self._load(pack, record) for record in usable if record.source != "semi_real"]
        self._coordinates = frame_coordinates(grid, device)
        self._spacing = tuple(reversed(grid.spacing))
        self._tissue_of_class = functional.one_hot(torch.from_numpy(TISSUE_OF_CLASS).long(), 4).float().to(device)

    def batch(self, landmarks: dict[str, Landmarks], *key: object, subjects: range) -> PairedBatch:
        """The pairs of the slots `subjects`; each depends on the seed, `key` and its slot alone."""
        rendered = [self.subject(landmarks, generator_for(self.device, self.seed, *key, slot)) for slot in subjects]
        images, brains, tissues = zip(*rendered, strict=True)
        return PairedBatch(torch.stack(images), torch.stack(brains)[:, None], torch.stack(tissues))

    def subject(
        self,
        landmarks: dict[str, Landmarks],
        generator: torch.Generator,
        alter: Callable[[Pictures], Pictures] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One subject: standardised images (S, D, H, W), brain (D, H, W) and tissues (D, H, W).

        `alter` changes the pictures before they are scanned; only validation passes one.
        """
        pictures = self.pictures(generator)
        if alter is not None:
            pictures = alter(pictures)
        scans = self._scans(pictures, generator)
        images = [
            standardise(image, pictures.brain, landmarks[name])
            for name, image in zip(self.sequences, scans, strict=True)
        ]
        return torch.stack(images), pictures.brain, pictures.tissues

    def learn_landmarks(self, count: int) -> dict[str, Landmarks]:
        """The standard scale of every sequence, from `count` generated subjects."""
        rows: dict[str, list[Tensor]] = {name: [] for name in self.sequences}
        for index in range(count):
            generator = generator_for(self.device, self.seed, "landmarks", index)
            pictures = self.pictures(generator)
            for name, image in zip(self.sequences, self._scans(pictures, generator), strict=True):
                rows[name].append(measure_landmarks(image, pictures.brain))
        return {name: learn_landmarks(measured) for name, measured in rows.items()}

    def pictures(self, generator: torch.Generator) -> Pictures:
        """A random subject in a random shape, with random tissue intensities, on the model grid."""
        subject = self._draw(generator)
        coordinates = random_coordinates(self._coordinates, self.grid, self.config, generator)
        fractions = self._class_fractions(subject, coordinates)
        if not subject.images:
            fractions = random_atrophy(fractions, self._spacing[0], self.config, generator)
        whole = fractions[..., 0] < 0.5
        tissue = fractions[..., 0] + fractions[..., OUTER_CSF] < 0.5
        brain = random_brain_mask(whole, tissue, self._spacing[0], self.config, generator)
        images = self._images(subject, coordinates, fractions, generator)
        tissues = self._tissues(subject.record, images, fractions, brain)
        return Pictures(images, brain, tissues, subject.record.name)

    def fractions_in_frame(self, record: Record) -> Tensor:
        """Share of every label class in every voxel of an unmoved subject, float32 (D, H, W, classes)."""
        subject = next(item for item in (*self._others, *self._semi_real) if item.record == record)
        return self._class_fractions(subject, self._coordinates)

    def _draw(self, generator: torch.Generator) -> _Subject:
        semi_real = self._semi_real and (not self._others or chance(generator, self.config.semi_real_share))
        choices = self._semi_real if semi_real else self._others
        return choices[int(torch.randint(len(choices), (), generator=generator, device=self.device))]

    def _images(self, subject: _Subject, coordinates: Tensor, fractions: Tensor, generator: torch.Generator) -> Tensor:
        """Float32 (S, D, H, W): the real image where there is one, priors times tissue fractions elsewhere."""
        real = self._warped(subject, coordinates) if subject.images else {}
        shares = _of_brain(fractions)
        texture = self._texture(real, shares, fractions[..., 0] < 0.5, generator)
        images = []
        for name in self.sequences:
            if name in real:
                images.append(real[name])
                continue
            means, deviations = draw_intensities(self._priors[name], self.config, generator)
            mean, deviation = (shares @ torch.stack((means, deviations))[:, 1:].T).unbind(-1)
            images.append((mean + deviation * texture).clamp_min(0))
        return torch.stack(images)

    def _texture(self, real: dict[str, Tensor], shares: Tensor, inside: Tensor, generator: torch.Generator) -> Tensor:
        """Standard normal variation within tissues, (D, H, W); a real T1's own, inverted, where there is one."""
        shape = self.grid.shape
        if real:
            image = next(iter(real.values()))
            weights = shares.flatten(0, 2)
            # a matrix product over so many voxels would round differently from call to call
            means = (image.flatten()[:, None] * weights).sum(0) / weights.sum(0).clamp_min(1)
            residual = image - shares @ means
            spread = residual[inside].std().clamp_min(1e-6)
            return -(residual / spread).clamp(-3, 3)
        cells = [max(2, round(n * s / self.config.texture_cells_mm)) for n, s in zip(shape, self._spacing, strict=True)]
        coarse = torch.randn((1, 1, *cells), generator=generator, device=self.device)
        smooth = functional.interpolate(coarse, size=shape, mode="trilinear", align_corners=True)[0, 0]
        return smooth + 0.5 * torch.randn(shape, generator=generator, device=self.device)

    def _scans(self, pictures: Pictures, generator: torch.Generator) -> list[Tensor]:
        return [scan(image, pictures.brain, self._spacing, self.config, generator) for image in pictures.images]

    def _tissues(self, record: Record, images: Tensor, fractions: Tensor, brain: Tensor) -> Tensor:
        if record.source == "paired":
            if self.config.cluster_pairs:
                return cluster_tissues(images, brain)
            return torch.where(brain > 0, -1, 0)
        shares = fractions @ self._tissue_of_class
        return (1 + shares[..., 1:].argmax(dim=-1)) * (brain > 0)

    def _class_fractions(self, subject: _Subject, coordinates: Tensor) -> Tensor:
        """Share of every label class in every voxel, float32 (D, H, W, classes)."""
        columns = [self._label_offsets(subject.record, coordinates, axis) for axis in range(3)]
        first = torch.arange(coordinates[0].numel(), device=self.device).reshape(self.grid.shape) * COUNT
        shares = torch.zeros(first.numel() * COUNT, device=self.device)
        corner = torch.full((first.numel(),), 1 / 8, device=self.device)
        for choice in product((0, 1), repeat=3):
            (x, in_x), (y, in_y), (z, in_z) = (column[side] for column, side in zip(columns, choice, strict=True))
            cells = first + subject.labels[x + y + z] * (in_x & in_y & in_z)
            shares.scatter_add_(0, cells.flatten(), corner)  # eighths add up without rounding, in any order
        return shares.reshape(*self.grid.shape, COUNT)

    def _label_offsets(self, record: Record, coordinates: Tensor, axis: int) -> list[tuple[Tensor, Tensor]]:
        """For the lower and the upper corners of every voxel: offset of the nearest label along `axis`, and validity.

        Plain arithmetic, because grid_sample cannot read label maps exactly. `axis` counts x, y, z, the reverse of
        the array's.
        """
        size = record.shape[2 - axis]
        stride = int(np.prod(record.shape[3 - axis :]))
        position = (coordinates[axis] - record.origin[axis]) / record.spacing[axis]
        step = CORNER * self.grid.spacing[axis] / record.spacing[axis]
        offsets = []
        for corner in (-step, step):
            index = (position + corner).round_().int()
            offsets.append((index.clamp(0, size - 1).mul_(stride), (index >= 0) & (index < size)))
        return offsets

    def _warped(self, subject: _Subject, coordinates: Tensor) -> dict[str, Tensor]:
        """Real images at the frame positions, trilinear over what is brain there, (D, H, W) by sequence."""
        record = subject.record
        shape = torch.tensor([*reversed(record.shape)], device=self.device).reshape(3, 1, 1, 1)
        origin = torch.tensor(record.origin, device=self.device).reshape(3, 1, 1, 1)
        spacing = torch.tensor(record.spacing, device=self.device).reshape(3, 1, 1, 1)
        normalised = (2 * ((coordinates - origin) / spacing) + 1) / shape - 1
        grid = normalised.movedim(0, -1)[None].float()
        inside = (subject.labels > 0).reshape(record.shape).float()
        stack = torch.stack([inside, *(image * inside for image in subject.images.values())])
        share, *sampled = functional.grid_sample(stack[None], grid, mode="bilinear", align_corners=False)[0]
        # as in detection, background must not darken the border
        return {name: image / share.clamp_min(1e-3) for name, image in zip(subject.images, sampled, strict=True)}

    def _can_render(self, record: Record) -> bool:
        return all(
            name in record.image_offsets or (record.source != "paired" and name in self._priors)
            for name in self.sequences
        )

    def _load(self, pack: Pack, record: Record) -> _Subject:
        images = {
            # bytes: hundreds of real pairs as floats would fill a GPU
            name: torch.from_numpy(pack.image(record, name)).to(self.device)
            for name in record.image_offsets
            if name in self.sequences
        }
        return _Subject(record, torch.from_numpy(pack.labels(record)).flatten().to(self.device), images)


def _of_brain(fractions: Tensor) -> Tensor:
    """Shares of the label classes in what is brain of a voxel: background must not darken the border."""
    return fractions[..., 1:] / (1 - fractions[..., :1]).clamp_min(1e-3)
