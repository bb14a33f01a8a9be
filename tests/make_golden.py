"""Draw the files of ``tests/golden`` and store the tensors that they give.

The files hold one drawn pattern without any symmetry, in every format, mode,
depth and orientation that the input contract names. ``tensors.npz`` holds
what the contract makes of each file, for one and for three channels: the
pixels that the shipped models were made for. A change of it is a change of
the contract, and needs new rule names in ``InputContract`` and new exports.

Usage: ``python tests/make_golden.py`` stores the tensors of the files that
are there; with ``--draw`` it draws the files anew first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medkit.images.contract import InputContract
from medkit.images.reading import load_tensor

FOLDER = Path(__file__).parent / "golden"
TENSORS = "tensors.npz"
CHANNELS = (1, 3)
WIDTH, HEIGHT = 41, 57

Pixels = NDArray[np.uint8]


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the golden files and store their tensors.")
    parser.add_argument("--draw", action="store_true", help="draw the files anew first")
    if parser.parse_args().draw:
        draw_files(FOLDER)
    np.savez_compressed(FOLDER / TENSORS, **tensors(FOLDER))


def files(folder: Path) -> list[Path]:
    """Return the golden image files."""
    return sorted(path for path in folder.iterdir() if path.suffix != ".npz")


def tensors(folder: Path) -> dict[str, Pixels]:
    """Return the tensor of each file and channel count, under its :func:`key`."""
    return {
        key(path, channels): load_tensor(path, InputContract(128, 128, channels))
        for path in files(folder)
        for channels in CHANNELS
    }


def key(path: Path, channels: int) -> str:
    """Return the name of a file's tensor in the archive."""
    return f"{path.name}:{channels}"


def pattern(width: int = WIDTH, height: int = HEIGHT) -> Pixels:
    """Draw blocks of colour on a slope, unlike themselves however turned or mirrored."""
    y, x = np.mgrid[:height, :width] / [[[height]], [[width]]]
    image = np.stack([40 + 150 * x, 30 + 120 * y, 120 - 60 * x], axis=-1)
    image[(x > 0.1) & (x < 0.3) & (y > 0.1) & (y < 0.9)] = 250, 20, 40
    image[(x > 0.3) & (x < 0.8) & (y > 0.1) & (y < 0.25)] = 10, 230, 90
    image[(x > 0.3) & (x < 0.6) & (y > 0.45) & (y < 0.6)] = 255, 255, 255
    image[(x > 0.7) & (y > 0.8)] = 0, 0, 0
    return np.rint(image).astype(np.uint8)


def grey_pattern(width: int = WIDTH, height: int = HEIGHT) -> Pixels:
    """Draw the same in grey levels 0..255."""
    return pattern(width, height).max(axis=2)


def deeper(grey: Pixels, depth: int) -> NDArray[np.uint16]:
    """Return 8-bit samples at a greater depth, stored in 16 bits."""
    return np.rint(grey * ((2**depth - 1) / 255)).astype(np.uint16)


def with_orientation(upright: Pixels, orientation: int) -> Pixels:
    """Return pixels as they are stored under an EXIF orientation."""
    stored: Pixels = {
        1: lambda pixels: pixels,
        2: np.fliplr,
        3: lambda pixels: np.rot90(pixels, 2),
        4: np.flipud,
        5: lambda pixels: pixels.swapaxes(0, 1),
        6: lambda pixels: np.rot90(pixels, 1),
        7: lambda pixels: np.rot90(pixels.swapaxes(0, 1), 2),
        8: lambda pixels: np.rot90(pixels, -1),
    }[orientation](upright)
    return np.ascontiguousarray(stored)


def exif(orientation: int) -> Image.Exif:
    """Return EXIF data that say nothing but an orientation."""
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def draw_files(folder: Path) -> None:
    """Draw every file."""
    folder.mkdir(exist_ok=True)
    colour, grey = Image.fromarray(pattern()), Image.fromarray(grey_pattern())
    turned = Image.fromarray(with_orientation(pattern(), 6))

    colour.save(folder / "colour.bmp")
    colour.save(folder / "colour.jpg", quality=90)
    colour.save(folder / "colour.png")
    colour.save(folder / "colour.tiff")
    colour.save(folder / "colour-lossless.webp", lossless=True)
    grey.save(folder / "grey.jpg", quality=90)
    turned.save(folder / "orientation-6.jpg", quality=90, exif=exif(6))
    colour.convert("CMYK").save(folder / "cmyk.jpg", quality=90)

    Image.fromarray(deeper(grey_pattern(), 16)).save(folder / "grey-16-bit.png")
    Image.fromarray(deeper(grey_pattern(), 12)).save(folder / "grey-12-in-16-bit.png")

    alpha = np.rint(np.linspace(0, 255, WIDTH)).astype(np.uint8)
    see_through = np.dstack([pattern(), np.broadcast_to(alpha, (HEIGHT, WIDTH))])
    Image.fromarray(see_through).save(folder / "alpha.png")
    colour.quantize(32).save(folder / "palette-transparent.png", transparency=0)

    # Large enough to be decoded at half its size, and smooth enough to be a small file.
    Image.fromarray(pattern(700, 600)).save(folder / "scaled.jpg", quality=75)


if __name__ == "__main__":
    main()
