"""Every default that the library and the command line share, and nothing else.

Nothing is imported here, so that ``medkit --help`` can show the defaults at once.
"""

from __future__ import annotations

PNEUMONIA_NAME, SKIN_NAME = "pneumonia", "skin"
"""Names of the tasks that are built in."""

AUTO = "auto"
"""As a task: by each image's colour. As a runtime: the fastest that has passed parity."""

STDOUT = "-"
"""The output that means CSV on standard output."""

STDIN = "-"
"""The list of paths that means standard input."""

BALANCED, HIGH_SENSITIVITY = "balanced", "high-sensitivity"
"""Names of the operating points that every trained model has. The first decides by default."""

RUNTIME = "litert"
"""The runtime of the shipped files: it comes with the base install."""

ENGINE = "threads"
"""The engine of a single machine."""

PRECISION = "int8"
"""The export that is used and made: the smallest and fastest."""

BATCH_SIZE = 16
"""Images in one inference. More gain nothing on one thread; see docs/performance.md."""

MEGAPIXELS, SECONDS, MEGABYTES, EXPANSION = 200, 30, 1000, 400
"""What one image may cost; see :class:`medkit.images.limits.Limits`."""

BENCHMARK_ROUNDS = 3
"""Rounds of a benchmark, of which the best counts."""

RECIPE = "default"
"""The recipe that the shipped models were trained by."""

MEASURED_IMAGES = 400
"""Images on which ``medkit adopt`` measures pixels and resizes."""

OWN_NETWORK = "compact-cnn"
"""The network of a task of one's own: it needs no weights from elsewhere."""

SEED = 0

CALIBRATION_IMAGES = 256
"""Images in a calibration set; ranges hardly move beyond a few hundred (Nagel et al. 2021)."""

MAX_DROP = 1.0
"""Points of accuracy, and hundredths of AUC, that an export may lose."""

BETWEEN_LABELS = ";"
"""What stands between two labels of an image of a multi-label task. No label holds it."""
