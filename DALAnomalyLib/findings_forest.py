"""Findings at any threshold of a slider: the neighbourhood of all voxels is looked at once, not at every step.

Of all paths between two voxels, the one in the maximum spanning forest of the scores has the highest lowest score. Two
voxels are therefore connected at a threshold exactly when the forest connects them there, and the forest has thirteen
times fewer edges than the voxels have neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from DALAnomalyLib.errors import UsageError
from DALAnomalyLib.findings import (
    Array,
    ComponentVoxels,
    Finding,
    candidates,
    check_limits,
    list_findings,
    smallest_finding,
)
from DALAnomalyLib.volume import Volume

_HALF_OF_THE_NEIGHBOURS = tuple(step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0))


@dataclass(frozen=True, eq=False)
class FoundVoxels:
    """The n voxels of all findings at one threshold, in the order of the array.

    Attributes:
        index: (n,) into the flattened array.
        label: uint16 (n,), the finding's label.
        score: (n,), the voxel's score.
    """

    index: Array
    label: Array
    score: Array


class FindingsForest:
    """`find_findings` for a slider: slow to build, quick to ask.

    Attributes:
        lowest: the lowest threshold that can be asked for.
        labels: uint16 (D, H, W), the findings last asked for. The array is reused: the next question overwrites it.
        voxels: the same findings voxel by voxel.
    """

    def __init__(self, score: Volume, mask: Volume, lowest: float) -> None:
        """Prepare all thresholds from `lowest` on; score and mask as in `find_findings`, which says what is refused."""
        check_limits(lowest, 0.0)
        self.lowest = lowest
        self.labels = score.with_array(np.zeros(score.grid.shape, dtype=np.uint16))
        self._where = tuple(indices.astype(np.int32) for indices in np.nonzero(candidates(score, mask, lowest)))
        self._index = np.ravel_multi_index(self._where, score.grid.shape)
        self._score = score.array[self._where]
        self._rank = _ranks(self._score)
        self._forest = _spanning_forest(self._where, self._rank)
        self.voxels = FoundVoxels(*(np.empty(0, kind) for kind in (np.intp, np.uint16, self._score.dtype)))

    def findings(self, threshold: float, minimum_volume_ml: float) -> tuple[Volume, tuple[Finding, ...]]:
        """The same as `find_findings` of the same score and mask gives, label map included.

        Raises:
            UsageError: the threshold is below `lowest`, or one of the reasons of `find_findings`.
        """
        self._check(threshold, minimum_volume_ml)
        above = np.flatnonzero(self._score >= threshold)
        components = self._components(above)
        labels, findings = list_findings(components, self.labels.grid, threshold, minimum_volume_ml)
        self._write(above, labels[components.component])
        return self.labels, findings

    def totals(self, thresholds: Array, minimum_volume_ml: float) -> tuple[Array, Array]:
        """How much `findings` finds at many thresholds, from one pass over the voxels.

        Args:
            thresholds: (t,), at least one, each as `findings` takes it, in any order.
            minimum_volume_ml: smaller findings do not count; 0 counts all.

        Returns:
            Volume of all findings in ml, float64 (t,), and their number, int64 (t,), at each threshold.

        Raises:
            UsageError: a threshold is below `lowest`, or the volume is negative.
        """
        self._check(float(np.min(thresholds)), minimum_volume_ml)
        voxel_ml = self.labels.grid.voxel_volume_ml
        voxels, number = _growth(self._forest, smallest_finding(minimum_volume_ml, voxel_ml))
        # as in `findings`, a threshold is compared in the precision of the scores
        wanted = np.asarray(thresholds).astype(self._score.dtype)
        above = self._score.size - np.searchsorted(np.sort(self._score), wanted, side="left")
        return voxels[above] * voxel_ml, number[above]

    def _check(self, threshold: float, minimum_volume_ml: float) -> None:
        check_limits(threshold, minimum_volume_ml)
        if threshold < self.lowest:
            msg = f"threshold is {threshold:g}, but findings were prepared from {self.lowest:g} on; give that or more"
            raise UsageError(msg)

    def _components(self, above: Array) -> ComponentVoxels:
        # In descending order of score, the voxels above a threshold and the edges among them are the first ones.
        count, of_rank = connected_components(_first(self._forest, above.size), directed=False)
        where = tuple(indices[above] for indices in self._where)
        return ComponentVoxels(where, of_rank[self._rank[above]], self._score[above], count)

    def _write(self, above: Array, label: Array) -> None:
        flat = self.labels.array.reshape(-1)
        flat[self.voxels.index] = 0
        kept = label > 0
        above = above[kept]
        self.voxels = FoundVoxels(self._index[above], label[kept], self._score[above])
        flat[self.voxels.index] = self.voxels.label


def _ranks(score: Array) -> Array:
    """Position of each voxel in descending order of score, int32 (n,)."""
    ranks = np.empty(score.size, dtype=np.int32)
    ranks[np.argsort(-score, kind="stable")] = np.arange(score.size, dtype=np.int32)
    return ranks


def _spanning_forest(where: tuple[Array, ...], rank: Array) -> csr_array:
    """Maximum spanning forest of the voxels, as a matrix over ranks.

    Row r holds the neighbours of lower rank, that is of higher score, to which the forest joins the voxel of rank r. An
    edge lasts as long as the lower of its voxels, so its weight is the row's number. That is never 0, which scipy would
    take for no edge, since the highest voxel has no higher neighbour.
    """
    edges = [np.empty((2, 0), dtype=np.int32), *_neighbours(where, rank)]
    low, high = np.concatenate(edges, axis=1)
    graph = coo_array((low.astype(np.float64), (low, high)), shape=(rank.size, rank.size)).tocsr()
    return minimum_spanning_tree(graph, overwrite=True)


def _neighbours(where: tuple[Array, ...], rank: Array) -> Iterator[Array]:
    """Pairs of neighbouring voxels per direction, int32 (2, m): the later rank and the earlier."""
    if not rank.size:
        return
    corner = [int(indices.min()) - 1 for indices in where]  # a margin of one voxel, so that no neighbour lies outside
    shape = [int(indices.max()) - low + 2 for indices, low in zip(where, corner, strict=True)]
    box = np.full(shape, -1, dtype=np.int32)
    inner = tuple(indices - low for indices, low in zip(where, corner, strict=True))
    box[inner] = rank
    for step in _HALF_OF_THE_NEIGHBOURS:
        other = box[tuple(indices + offset for indices, offset in zip(inner, step, strict=True))]
        pair = np.stack([rank, other])[:, other >= 0]
        yield np.stack([pair.max(axis=0), pair.min(axis=0)])


def _first(forest: csr_array, count: int) -> csr_array:
    """The part of the forest among the first `count` ranks, sharing its memory."""
    end = forest.indptr[count]
    return csr_array((forest.data[:end], forest.indices[:end], forest.indptr[: count + 1]), shape=(count, count))


def _growth(forest: csr_array, smallest: int) -> tuple[Array, Array]:
    """Voxels in findings, and findings, when the r highest voxels lie above the threshold: two int64 (n + 1,).

    Findings of fewer than `smallest` voxels do not count. One voxel after another joins those higher than itself.
    """
    starts, neighbours = forest.indptr.tolist(), forest.indices.tolist()
    parent = list(range(len(starts) - 1))
    size = [1] * len(parent)
    voxels, number = [0], [0]
    for rank in range(len(parent)):
        in_findings, found = voxels[-1], number[-1]
        root = rank
        if smallest <= 1:
            in_findings, found = in_findings + 1, found + 1
        for neighbour in neighbours[starts[rank] : starts[rank + 1]]:
            other = _root(parent, neighbour)
            for part in (size[root], size[other]):
                if part >= smallest:
                    in_findings, found = in_findings - part, found - 1
            if size[root] < size[other]:
                root, other = other, root
            parent[other] = root
            size[root] += size[other]
            if size[root] >= smallest:
                in_findings, found = in_findings + size[root], found + 1
        voxels.append(in_findings)
        number.append(found)
    return np.array(voxels), np.array(number)


def _root(parent: list[int], voxel: int) -> int:
    while parent[voxel] != voxel:
        parent[voxel] = parent[parent[voxel]]
        voxel = parent[voxel]
    return voxel
