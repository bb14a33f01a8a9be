"""Whether a JPEG inside of another file brings all its pixels."""

from __future__ import annotations

import io

from PIL import JpegImagePlugin

from medkit.errors import ImageError
from medkit.images.formats.jpeg_deep import is_deep
from medkit.images.formats.jpeg_end import JpegScans, check_last_scan, read_scans
from medkit.images.formats.jpeg_header import read_frame
from medkit.images.formats.jpeg_watch import LastRow
from medkit.images.formats.pillow_globals import as_pillow_comes
from medkit.images.formats.pillow_limits import MOST_SCANS

_DAMAGE = (OSError, SyntaxError, ValueError)


def brings_all_pixels(content: bytes, most: tuple[int, int]) -> bool:
    """Return whether all pixels are there; also true for what Pillow cannot decode.

    Parameters
    ----------
    content
        The JPEG, with its tables.
    most
        Width and height that it may have. A larger one is not decoded here;
        neither is one of more scans than libtiff reads.
    """
    scans = read_scans(content)
    if not scans.has_end or not scans.complete:
        return False
    frame = read_frame(content)
    if frame is None or is_deep(frame) or frame.components == 2:
        return True
    if frame.width > most[0] or frame.height > most[1] or scans.count > MOST_SCANS:
        return True  # the decoder of the file refuses it
    with as_pillow_comes():
        try:
            if scans.count > 1 or not _last_row_is_written(content, scans):
                check_last_scan(content, scans, _samples)
        except ImageError:
            return False
        except _DAMAGE:
            return True  # the decoder of the file says why
    return True


def _last_row_is_written(content: bytes, scans: JpegScans) -> bool:
    assert scans.data_end is not None
    last_row = LastRow(io.BytesIO(content), scans.data_end)
    with JpegImagePlugin.JpegImageFile(last_row.stream) as image:
        image.draft(image.mode, (1, 1))  # the data are read in full at the smallest scale, too
        last_row.watch(image)
        image.load()
    return not last_row.is_missing


def _samples(content: bytes) -> bytes:
    with JpegImagePlugin.JpegImageFile(io.BytesIO(content)) as image:
        image.load()
        return image.tobytes()
