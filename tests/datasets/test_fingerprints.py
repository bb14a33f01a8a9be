"""What tells that two files are the same image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from auditfiles import broken, drawing
from medkit.datasets.fingerprints import hash_of_pixels, take_fingerprints
from medkit.files import sha256_of


def test_each_file_is_decoded_once_and_shown(tmp_path: Path) -> None:
    paths = [drawing(tmp_path / f"{seed}.png", seed, size=(90, 70)) for seed in range(5)]
    seen: list[tuple[Path, tuple[int, int]]] = []
    taken = take_fingerprints(paths, lambda path, image: seen.append((path, image.size)))
    assert list(taken) == paths
    assert sorted(seen) == [(path, (90, 70)) for path in paths]
    for path, print_ in taken.items():
        assert (print_.sha256, print_.size, print_.error) == (sha256_of(path), (90, 70), "")
        assert print_.content == print_.pixels
    assert len({print_.pixels for print_ in taken.values()}) == 5


def test_what_cannot_be_decoded_is_compared_by_its_bytes(tmp_path: Path) -> None:
    path = broken(tmp_path / "a.png")
    gone = tmp_path / "gone.png"
    taken = take_fingerprints([path, gone])
    assert taken[path].content == taken[path].sha256 == sha256_of(path)
    assert "not an image of an accepted format" in taken[path].error
    assert (taken[gone].content, taken[gone].error) == ("", "No such file or directory")


def test_size_and_colour_are_a_part_of_the_pixels() -> None:
    grey = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    other = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(4, 3))
    red = Image.merge("RGB", (grey, grey, Image.new("L", grey.size)))
    hashes = [hash_of_pixels(image) for image in (grey, other, red)]
    assert len(set(hashes)) == 3
    assert hash_of_pixels(grey.convert("RGB")) == hashes[0]
