import dataclasses

import pytest
import torch
from torch import Tensor

from DALAnomalyLib.scoring.filters import minimum_filter
from DALAnomalyTraining.anatomical_noise import disturb, disturb_edges
from DALAnomalyTraining.generator.generator_config import GeneratorConfig
from DALAnomalyTraining.randomness import generator_for

SHAPE = (20, 24, 22)
SPACING = (2.5, 2.5, 2.5)
CONFIG = GeneratorConfig(anatomical_noise_regions=3, anatomical_noise_mm=(6.0, 20.0))
CPU = torch.device("cpu")


def brain_and_anatomy() -> tuple[Tensor, Tensor]:
    brain = torch.zeros(1, *SHAPE)
    brain[:, 3:-3, 4:-3, 2:-4] = 1
    classes = torch.randint(1, 4, (1, *SHAPE), generator=torch.Generator().manual_seed(0))
    return brain, classes / 3 * brain


def disturbed(*key: object, config: GeneratorConfig = CONFIG, spacing: tuple[float, ...] = SPACING) -> Tensor:
    brain, anatomy = brain_and_anatomy()
    return disturb(anatomy, brain, spacing, config, generator_for(CPU, *key))


def changed(*key: object, **options: object) -> Tensor:
    return disturbed(*key, **options) != brain_and_anatomy()[1]


def test_the_anatomy_itself_is_left_alone() -> None:
    brain, anatomy = brain_and_anatomy()
    before = anatomy.clone()
    copies = [disturb(anatomy, brain, SPACING, CONFIG, generator_for(CPU, key)) for key in range(5)]
    assert torch.equal(anatomy, before)
    assert any(not torch.equal(copy, before) for copy in copies)


def test_nothing_outside_the_brain_changes() -> None:
    brain, _ = brain_and_anatomy()
    assert not any(disturbed(key)[brain == 0].any() for key in range(10))


def test_regions_get_tissues_and_nothing_else() -> None:
    brain, _ = brain_and_anatomy()
    for key in range(10):
        classes = 3 * disturbed(key)[brain > 0]
        torch.testing.assert_close(classes, classes.round(), rtol=0, atol=1e-6)
        assert 1 <= classes.round().min() <= classes.round().max() <= 3


def test_a_region_becomes_one_tissue_or_a_patchwork_of_two() -> None:
    brain, _ = brain_and_anatomy()
    grey = 2 / 3 * brain
    one = dataclasses.replace(CONFIG, anatomical_noise_regions=1)
    found = set()
    for key in range(40):
        copy = disturb(grey, brain, SPACING, one, generator_for(CPU, key))
        found.add(tuple((3 * copy[copy != grey]).round().unique().tolist()))
    assert found == {(), (1,), (3,), (1, 3)}


def test_the_same_key_gives_the_same_noise_and_another_key_another() -> None:
    assert torch.equal(disturbed(0, "noise", 3), disturbed(0, "noise", 3))
    assert len({disturbed(0, "noise", step).sum().item() for step in range(8)}) > 4


def test_no_regions_means_no_noise() -> None:
    off = dataclasses.replace(CONFIG, anatomical_noise_regions=0)
    assert not any(changed(key, config=off).any() for key in range(10))


def test_the_number_of_regions_varies_from_none_to_the_most() -> None:
    shares = [changed(key).float().mean().item() for key in range(40)]
    assert 4 <= shares.count(0) <= 18  # a quarter of 40 expected
    many = dataclasses.replace(CONFIG, anatomical_noise_regions=12)
    assert sum(changed(key, config=many).float().mean().item() for key in range(40)) > 1.5 * sum(shares)


def test_regions_are_as_large_as_configured() -> None:
    """One region of fixed radius: a ball whose axes stray by .7 to 1.4 and whose surface waves."""
    one = GeneratorConfig(anatomical_noise_regions=1, anatomical_noise_mm=(12.0, 12.0))
    extents = []
    for key in range(20):
        found = changed(key, config=one)[0].nonzero()
        if len(found):
            extents.append((found.max(0).values - found.min(0).values + 1).max().item() * SPACING[0])
    assert len(extents) > 5
    assert 12 < max(extents) < 2 * 12 * 1.4 * 2
    smaller = dataclasses.replace(one, anatomical_noise_mm=(6.0, 6.0))
    assert sum(changed(k, config=smaller).sum() for k in range(20)) < sum(
        changed(k, config=one).sum() for k in range(20)
    )


def test_noise_carries_no_gradient() -> None:
    brain, anatomy = brain_and_anatomy()
    assert not disturb(anatomy.requires_grad_(), brain, SPACING, CONFIG, generator_for(CPU, 1)).requires_grad


@pytest.mark.parametrize("spacing", [(5.0, 2.5, 2.5), (2.5, 2.5, 5.0)])
def test_regions_are_round_in_millimetres(spacing: tuple[float, float, float]) -> None:
    one = GeneratorConfig(anatomical_noise_regions=1, anatomical_noise_mm=(10.0, 10.0))
    extents = torch.zeros(3)
    for key in range(40):
        found = changed(key, config=one, spacing=spacing)[0].nonzero()
        if len(found):
            extents += (found.max(0).values - found.min(0).values).float() * torch.tensor(spacing)
    assert extents.max() < 1.5 * extents.min()


def test_a_core_of_another_tissue_lies_inside_its_region() -> None:
    brain, _ = brain_and_anatomy()
    cored = dataclasses.replace(CONFIG, anatomical_noise_regions=1, anatomical_noise_core=1.0)
    plain = dataclasses.replace(cored, anatomical_noise_core=0.0)
    several = 0
    for key in range(30):
        copies = [disturb(2 / 3 * brain, brain, SPACING, c, generator_for(CPU, key)) for c in (plain, cored)]
        region, core = copies[0] != 2 / 3 * brain, copies[1] != copies[0]
        assert not (core & ~region).any() or not region.any()  # a grey region does not show against grey
        several += bool(core.any() and (region & ~core).any())
    assert several > 5


class TestEdges:
    config = GeneratorConfig(edge_noise_regions=1, anatomical_noise_mm=(10.0, 20.0))

    def changes(self, edges: Tensor, config: GeneratorConfig | None = None, keys: int = 30) -> list[Tensor]:
        brain, _ = brain_and_anatomy()
        edges = edges * brain
        config = config or self.config
        return [disturb_edges(edges, brain, SPACING, config, generator_for(CPU, key)) - edges for key in range(keys)]

    def test_spurious_edges_are_drawn_where_there_are_none(self) -> None:
        changes = self.changes(torch.zeros(1, *SHAPE))
        assert all(set(change.unique().tolist()) <= {0.0, 1.0} for change in changes)
        drawn = [change for change in changes if change.any()]
        assert 3 <= len(drawn) <= 15  # half of the regions, and half of the times there is none
        # surfaces, neither specks nor solid balls
        assert all(change.sum() > 8 for change in drawn)
        assert all(minimum_filter(change[None], 3).sum() == 0 for change in drawn)

    def test_edges_are_left_out(self) -> None:
        changes = self.changes(torch.ones(1, *SHAPE))
        assert all(set(change.unique().tolist()) <= {-1.0, 0.0} for change in changes)
        assert 3 <= sum(bool(change.any()) for change in changes) <= 15

    def test_edges_stay_inside_the_brain_and_the_original_as_it_is(self) -> None:
        brain, anatomy = brain_and_anatomy()
        edges = (anatomy > 0.5).float()
        before = edges.clone()
        many = dataclasses.replace(self.config, edge_noise_regions=8)
        copies = [disturb_edges(edges, brain, SPACING, many, generator_for(CPU, key)) for key in range(5)]
        assert torch.equal(edges, before)
        assert not any(copy[brain == 0].any() for copy in copies)
        assert all(set(copy.unique().tolist()) == {0.0, 1.0} for copy in copies)

    def test_none_when_turned_off(self) -> None:
        off = dataclasses.replace(self.config, edge_noise_regions=0)
        assert not any(change.any() for change in self.changes(torch.ones(1, *SHAPE), off))


SHIFTING = dataclasses.replace(CONFIG, anatomical_noise_regions=1, anatomical_noise_shift=1.0)


def test_a_shift_moves_tissues_by_degrees_and_leaves_the_rest() -> None:
    brain, _ = brain_and_anatomy()
    grey = 2 / 3 * brain
    found = set()
    for key in range(40):
        copy = disturb(grey, brain, SPACING, SHIFTING, generator_for(CPU, key))
        classes = 3 * copy[brain > 0]
        torch.testing.assert_close(classes, classes.round(), rtol=0, atol=1e-6)
        found |= set(classes.round().unique().tolist())
        assert (copy == grey)[brain > 0].any()
    assert found == {1, 2, 3}


def test_a_shift_keeps_structures_apart_that_a_single_tissue_would_cover() -> None:
    brain, anatomy = brain_and_anatomy()
    found = []
    for key in range(60):
        copy = disturb(anatomy, brain, SPACING, SHIFTING, generator_for(CPU, key))
        found.append((3 * copy[copy != anatomy]).round().unique().tolist())
    # one tissue would give one value, a patchwork 1 and 3
    assert [1, 2] in found
    assert [2, 3] in found


def test_shifts_are_off_unless_asked_for() -> None:
    plain = dataclasses.replace(CONFIG, anatomical_noise_shift=0.0)
    assert GeneratorConfig().anatomical_noise_shift == 0
    assert not torch.equal(
        disturbed(3, config=plain), disturbed(3, config=dataclasses.replace(plain, anatomical_noise_shift=1.0))
    )
