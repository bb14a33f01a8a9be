"""The labelled images that a model is measured on, with what is said about them."""

from __future__ import annotations

from dataclasses import replace

from medkit.datasets.folders import LabelledFolder, LeftOut, images_beside, read_labelled_folder
from medkit.datasets.labels import Labels
from medkit.datasets.location import Located
from medkit.errors import DatasetLayoutError


def read_measured(found: Located, labels: Labels) -> tuple[LabelledFolder, tuple[str, ...]]:
    """List the images to measure a model on. No image is decoded.

    Parameters
    ----------
    found
        Where they lie.
    labels
        The names of class folders.

    Returns
    -------
    folder, remarks
        The labelled folder, or the test split of a set; images beside the
        splits are among those that it leaves out. Lines for people, on
        images that are in or out though a reader might not expect it.

    Raises
    ------
    DatasetLayoutError
        If it holds no image; and as
        :func:`~medkit.datasets.folders.read_labelled_folder` raises it.
    """
    folder = read_labelled_folder(found.measured, labels)
    if not folder.files:
        passed_over = f" (passed over: {folder.passed_over})" if folder.passed_over else ""
        raise DatasetLayoutError(
            f"the class folders in {folder.root} hold no image{passed_over}; check their files"
        )
    if found.splits:
        # Names are relative to the split, which these images lie beside.
        beside = (
            LeftOut(f"../{each.name}", each.reason)
            for each in images_beside(found.root, found.splits)
        )
        folder = replace(folder, left_out=(*folder.left_out, *beside))
    return folder, (*folder.remarks(), *labels.remarks())
