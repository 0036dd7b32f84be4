import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from DALAnomalyLib.errors import InputError, OutputError
from DALAnomalyTraining.pack import FORMAT, Pack, PackWriter

PRIORS = {"T1": [[[1.0, 2.0], [0.1, 0.2]]], "T2": [[[3.0, 4.0], [0.3, 0.4]]]}
SPACING, ORIGIN = (1.0, 1.5, 2.0), (-60.5, -70.0, -120.25)


def random_labels(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 16, shape, dtype=np.uint8)


def random_image(shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def written(folder: Path, seed: int = 0) -> Path:
    writer = PackWriter("three subjects", PRIORS)
    writer.add("odd", "labels", random_labels((3, 5, 7), seed), {}, SPACING, ORIGIN, "site one")
    images = {"T1": random_image((4, 5, 6), 10 + seed), "T2": random_image((4, 5, 6), 20 + seed)}
    writer.add("pair", "paired", random_labels((4, 5, 6), seed + 1), images, SPACING, ORIGIN)
    writer.add(
        "real", "semi_real", random_labels((1, 1, 1), seed + 2), {"T1": random_image((1, 1, 1))}, SPACING, ORIGIN
    )
    writer.write(folder)
    return folder


def test_what_is_written_is_read(tmp_path: Path) -> None:
    pack = Pack(written(tmp_path / "pack"))
    assert (pack.description, pack.priors) == ("three subjects", PRIORS)
    assert [record.name for record in pack.records] == ["odd", "pair", "real"]
    assert [record.source for record in pack.records] == ["labels", "paired", "semi_real"]
    assert [record.shape for record in pack.records] == [(3, 5, 7), (4, 5, 6), (1, 1, 1)]
    assert all((record.spacing, record.origin) == (SPACING, ORIGIN) for record in pack.records)
    assert [record.group for record in pack.records] == ["site one", "", ""]
    assert [sorted(record.image_offsets) for record in pack.records] == [[], ["T1", "T2"], ["T1"]]
    for seed, record in enumerate(pack.records):
        np.testing.assert_array_equal(pack.labels(record), random_labels(record.shape, seed))
    np.testing.assert_array_equal(pack.image(pack.records[1], "T1"), random_image((4, 5, 6), 10))
    np.testing.assert_array_equal(pack.image(pack.records[1], "T2"), random_image((4, 5, 6), 20))
    np.testing.assert_array_equal(pack.image(pack.records[2], "T1"), random_image((1, 1, 1)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 3, 3), (2, 3, 4), (5, 7, 9)])
def test_labels_take_half_a_byte_each(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    writer = PackWriter("one", PRIORS)
    writer.add("one", "labels", random_labels(shape), {}, SPACING, ORIGIN)
    size = writer.write(tmp_path)
    assert size == (tmp_path / "pack.bin").stat().st_size == (np.prod(shape) + 1) // 2
    pack = Pack(tmp_path)
    labels = pack.labels(pack.records[0])
    assert (labels.dtype, labels.shape) == (np.uint8, shape)
    np.testing.assert_array_equal(labels, random_labels(shape))


def test_arrays_in_any_memory_order_are_taken(tmp_path: Path) -> None:
    labels, image = random_labels((4, 5, 6)), random_image((4, 5, 6))
    images = {"T1": image[::-1, :, ::-1], "T2": np.asfortranarray(image)}
    writer = PackWriter("one", PRIORS)
    writer.add("one", "paired", np.asfortranarray(labels), images, SPACING, ORIGIN)
    writer.write(tmp_path)
    pack = Pack(tmp_path)
    np.testing.assert_array_equal(pack.labels(pack.records[0]), labels)
    for sequence in images:
        np.testing.assert_array_equal(pack.image(pack.records[0], sequence), images[sequence])


def test_what_is_read_may_be_changed_without_changing_the_pack(tmp_path: Path) -> None:
    pack = Pack(written(tmp_path))
    record = pack.records[1]
    pack.labels(record)[:] = 0
    pack.image(record, "T1")[:] = 0
    np.testing.assert_array_equal(pack.labels(record), random_labels(record.shape, 1))
    np.testing.assert_array_equal(pack.image(record, "T1"), random_image(record.shape, 10))


def test_the_checksum_names_the_content(tmp_path: Path) -> None:
    digests = [Pack(written(tmp_path / name, seed)).sha256 for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    assert digests[0] == digests[1] != digests[2]


def test_writing_again_replaces_the_pack_and_leaves_no_half_files(tmp_path: Path) -> None:
    written(tmp_path, seed=0)
    pack = Pack(written(tmp_path, seed=1))
    np.testing.assert_array_equal(pack.labels(pack.records[0]), random_labels((3, 5, 7), 1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pack.bin", "pack.json"]


def test_a_pack_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Pack(written(tmp_path, seed=0)).sha256
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if "json" in self.name:
            raise OSError(28, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"pack\.json: the disk is full"):
        written(tmp_path, seed=1)
    assert Pack(tmp_path).sha256 == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pack.bin", "pack.json"]


def test_a_killed_replacement_leaves_no_pack_rather_than_a_mixed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, seed=0)
    replace = os.replace

    def killed(source: Path, target: Path) -> None:
        if target.name == "pack.json":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path, seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["pack.bin"]


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError, match=r"^one: images of shapes \[\(2, 3, 5\)\] beside labels of \(2, 3, 4\)$"):
        PackWriter("one", PRIORS).add(
            "one", "paired", random_labels((2, 3, 4)), {"T1": random_image((2, 3, 5))}, SPACING, ORIGIN
        )


def test_a_class_beyond_four_bits_is_refused() -> None:
    labels = random_labels((2, 3, 4))
    labels[1, 2, 3] = 16
    with pytest.raises(InputError, match="label class 16 does not fit the pack's 4 bits"):
        PackWriter("one", PRIORS).add("one", "labels", labels, {}, SPACING, ORIGIN)


def flip_a_bit(folder: Path) -> None:
    data = bytearray((folder / "pack.bin").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "pack.bin").write_bytes(data)


def truncate(folder: Path) -> None:
    data = (folder / "pack.bin").read_bytes()
    (folder / "pack.bin").write_bytes(data[:-1])


def append(folder: Path) -> None:
    with (folder / "pack.bin").open("ab") as file:
        file.write(b"\0")


@pytest.mark.parametrize("tamper", [flip_a_bit, truncate, append])
def test_tampering_is_detected(tmp_path: Path, tamper: Callable[[Path], None]) -> None:
    tamper(written(tmp_path))
    with pytest.raises(InputError, match=r"pack\.bin does not match its checksum"):
        Pack(tmp_path)


def test_the_check_can_be_left_out(tmp_path: Path) -> None:
    flip_a_bit(written(tmp_path))
    assert len(Pack(tmp_path, verify=False).records) == 3


def change_header(folder: Path, **changes: object) -> None:
    path = folder / "pack.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("other", ["dal-anomaly-pack-0", "dal-anomaly-pack-10", None])
def test_a_foreign_format_is_refused(tmp_path: Path, other: str | None) -> None:
    change_header(written(tmp_path), format=other)
    with pytest.raises(InputError, match=f"has pack format {other!r}, this version reads '{FORMAT}'"):
        Pack(tmp_path)


@pytest.mark.parametrize("name", ["pack.bin", "pack.json"])
def test_half_a_pack_is_refused(tmp_path: Path, name: str) -> None:
    (written(tmp_path) / name).unlink()
    with pytest.raises(InputError, match=r"is not a training pack .*build one with 'dal-anomaly prepare'"):
        Pack(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1, 2]", b'{"format": "dal-anomaly-pack-1"}'])
def test_a_description_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (written(tmp_path) / "pack.json").write_bytes(content)
    with pytest.raises(InputError, match=str(tmp_path)):
        Pack(tmp_path)


def test_a_full_disk_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"pack\.bin: the disk is full"):
        PackWriter("none", PRIORS).write(tmp_path / "pack")
