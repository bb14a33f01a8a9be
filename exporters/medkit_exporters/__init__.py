"""Conversion of the Keras originals to the files that run at the edge.

Importing this package does not import TensorFlow; :func:`export_models` does, after
every argument has been checked.
"""

from medkit_exporters.final import finalise_exports
from medkit_exporters.run import ExportedFile, ExportOptions, export_models

__all__ = ["ExportOptions", "ExportedFile", "export_models", "finalise_exports"]
