import dataclasses
import math

import pytest
import torch
from torch import Tensor

from DALAnomalyLib.configuration import GridConfig
from DALAnomalyTraining.generator.deformation import frame_coordinates
from DALAnomalyTraining.generator.pair_generator import Pictures
from DALAnomalyTraining.randomness import generator_for
from DALAnomalyTraining.synthetic_lesions import KINDS, Lesioned, LesionKind, insert_lesions

CPU = torch.device("cpu")
SPACING = (3.0, 3.0, 3.0)
GRID = GridConfig((44, 54, 44), SPACING)
CSF, WHITE = (40.0, 200.0), (130.0, 80.0)
"""Intensities on T1 and T2."""
BY_NAME = {kind.name: kind for kind in KINDS}


def head(known: bool = True) -> Pictures:
    """White matter with ventricles inside, CSF around; T1 and T2."""
    x, y, z = frame_coordinates(GRID, CPU)
    radius = torch.sqrt((x / 60) ** 2 + (y / 75) ** 2 + ((z + 62) / 60) ** 2)
    tissues = torch.where(radius < 0.9, 3, 1) * (radius < 1)
    tissues[radius < 0.2] = 1
    brain = (tissues > 0).float()
    images = torch.stack([torch.tensor((0, csf, 0, white))[tissues] for csf, white in zip(CSF, WHITE, strict=True)])
    return Pictures(images, brain, tissues if known else torch.where(brain > 0, -1, 0), "made up")


HEAD = head()


def lesioned(kind: LesionKind, key: object = 0, pictures: Pictures = HEAD) -> Lesioned:
    return insert_lesions(pictures, kind, SPACING, generator_for(CPU, key))


def changed(result: Lesioned, pictures: Pictures = HEAD) -> Tensor:
    return (result.pictures.images - pictures.images).abs().amax(0) > 1e-3


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_lesions_lie_in_the_brain_and_nothing_else_changes(kind: LesionKind) -> None:
    before = HEAD.images.clone()
    for key in range(4):
        result = lesioned(kind, key)
        assert result.lesion.dtype == torch.bool
        assert bool(result.lesion.any())
        assert not bool((result.lesion & (HEAD.brain == 0)).any())
        assert not bool((changed(result) & (HEAD.brain == 0)).any())
        # the shoulders of a lesion reach no further than a voxel beyond what is marked
        near = torch.nn.functional.max_pool3d(result.lesion[None, None].float(), 5, stride=1, padding=2)[0, 0] > 0
        assert float((changed(result) & ~near).sum()) <= 0.02 * float(result.lesion.sum())
        assert torch.equal(result.pictures.brain, HEAD.brain)
        assert torch.equal(result.pictures.tissues, HEAD.tissues)
    assert torch.equal(HEAD.images, before), "the healthy pictures themselves were changed"


@pytest.mark.parametrize("known", [True, False], ids=["known tissues", "unknown tissues"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_white_matter_darkens_on_t1_and_brightens_on_t2(kind: LesionKind, known: bool) -> None:
    pictures = head(known)
    for key in range(4):
        result = lesioned(kind, key, pictures)
        core = result.lesion & (HEAD.tissues == 3)
        t1, t2 = (result.pictures.images - pictures.images)[:, core].mean(dim=1)
        assert float(t1) < -0.2 * (WHITE[0] - CSF[0])
        assert float(t2) > 0.2 * (CSF[1] - WHITE[1])
        # at the same place between the tissues, whatever the sequence
        assert float(-t1 / (WHITE[0] - CSF[0])) == pytest.approx(float(t2 / (CSF[1] - WHITE[1])), rel=0.02)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_nothing_in_a_lesion_turns_less_like_csf(kind: LesionKind) -> None:
    pictures = head()
    grey = pictures.tissues.clone()
    grey[:, ::2][grey[:, ::2] == 3] = 2  # everywhere, and as like CSF as some lesions
    pictures.images[:, grey == 2] = torch.tensor((85.0, 140.0))[:, None]
    pictures = dataclasses.replace(pictures, tissues=grey)
    reached = 0
    for key in range(4):
        result = lesioned(kind, key, pictures)
        t1, t2 = result.pictures.images - pictures.images
        assert float(t1.max()) <= 1e-3
        assert float(t2.min()) >= -1e-3
        assert not bool((result.lesion & (grey == 1)).any())
        assert not bool((changed(result, pictures) & (grey == 1)).any())
        reached += int((result.lesion & (grey == 2)).sum())
    assert reached > 0


def test_real_pairs_get_lesions_deep_in_the_brain() -> None:
    """Their white matter is not known, so centres keep away from the surface."""
    x, y, z = frame_coordinates(GRID, CPU)
    radius = torch.sqrt((x / 60) ** 2 + (y / 75) ** 2 + ((z + 62) / 60) ** 2)
    small = LesionKind("dot", (4.0, 4.0), (1, 1), (1.0, 1.0))
    for key in range(20):
        lesion = lesioned(small, key, head(known=False)).lesion
        assert float(radius[lesion].mean()) < 0.85


def test_contrast_lies_where_the_kind_says() -> None:
    kind = LesionKind("flat", (20.0, 20.0), (1, 1), (0.5, 0.5), variation=0.0)
    result = lesioned(kind)
    inner = result.lesion & (HEAD.tissues == 3)
    t1 = result.pictures.images[0][inner]
    assert float(t1.median()) == pytest.approx((WHITE[0] + CSF[0]) / 2, abs=0.1)


def test_a_necrotic_core_looks_like_csf() -> None:
    kind = LesionKind("mass", (24.0, 24.0), (1, 1), (0.4, 0.4), core_share=0.5, variation=0.0)
    cores, rims, lesions = 0, 0, 0
    for key in range(6):
        result = lesioned(kind, key)
        inner = result.lesion & (HEAD.tissues == 3)
        t1 = result.pictures.images[0]
        cores += int((inner & ((t1 - CSF[0]).abs() < 0.1)).sum())
        rims += int((inner & ((t1 - (WHITE[0] + 0.4 * (CSF[0] - WHITE[0]))).abs() < 0.1)).sum())
        lesions += int(inner.sum())
    assert 0.03 * lesions < cores < rims
    assert cores + rims > 0.7 * lesions  # the rest are partial volumes


@pytest.mark.parametrize("radius", [9.0, 15.0, 21.0])
def test_lesions_are_as_large_as_their_radius(radius: float) -> None:
    kind = LesionKind("ball", (radius, radius), (1, 1), (1.0, 1.0))
    volumes = torch.tensor([float(lesioned(kind, key).lesion.sum()) * 27 for key in range(30)])
    # some are cut by the brain's border; axes and surface vary
    assert float(volumes.quantile(0.75)) == pytest.approx(4 / 3 * math.pi * radius**3, rel=0.5)
    assert float(volumes.max()) < 4 / 3 * math.pi * (radius * 1.6) ** 3


def test_plaques_are_many_and_small_and_an_oedema_is_large() -> None:
    plaques = [float(lesioned(BY_NAME["plaques"], key).lesion.sum()) for key in range(10)]
    oedemas = [float(lesioned(BY_NAME["oedema"], key).lesion.sum()) for key in range(10)]
    assert max(plaques) < sum(oedemas) / len(oedemas)
    _, count = _components(lesioned(BY_NAME["plaques"], 1).lesion)
    assert count > 1


def _components(lesion: Tensor) -> tuple[object, int]:
    from scipy import ndimage

    return ndimage.label(lesion.numpy(), ndimage.generate_binary_structure(3, 3))


def test_a_key_draws_one_lesion() -> None:
    for kind in KINDS:
        assert torch.equal(lesioned(kind, "a").pictures.images, lesioned(kind, "a").pictures.images)
        assert not torch.equal(lesioned(kind, "a").lesion, lesioned(kind, "b").lesion)
