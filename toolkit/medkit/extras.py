"""Optional packages: which extra brings which, and how their absence is told.

The base install classifies with LiteRT. Everything else is an extra that is
named after its purpose. :func:`require` is called before any work is done, so
that nobody waits for an hour and is then told to install a package.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from types import MappingProxyType

from medkit.errors import MissingExtraError

EXTRAS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "": {"ai_edge_litert": "ai-edge-litert"},
        "evaluate": {"scipy": "scipy", "sklearn": "scikit-learn"},
        "report": {"jinja2": "jinja2", "matplotlib": "matplotlib"},
        "audit": {"imagehash": "imagehash"},
        "formats": {
            "tifffile": "tifffile",
            "imagecodecs": "imagecodecs",
            "pillow_heif": "pillow-heif",
        },
        "pandas": {"pandas": "pandas"},
        "onnx": {"onnxruntime": "onnxruntime"},
        "inspect": {"onnx": "onnx", "h5py": "h5py"},
        "openvino": {"openvino": "openvino"},
        "keras": {"tensorflow": "tensorflow", "keras": "keras"},
        "train": {"tomli_w": "tomli-w"},
        "export": {"tf2onnx": "tf2onnx", "sympy": "sympy", "onnx_ir": "onnx-ir"},
    }
)
"""By extra, the modules that it is asked for, and the package that each comes in. The base
install has no name.

A module stands under the smallest extra that brings it; ``pyproject.toml``
lists all that an extra installs.
"""


def require(purpose: str, *modules: str, extra: str = "") -> None:
    """Check that optional packages are installed. Nothing is imported.

    Parameters
    ----------
    purpose
        Purpose that needs the packages, as the end of "needed to ...".
    modules
        Names of top-level modules, such as ``scipy``. Those that are not in
        :data:`EXTRAS` are packages of a plug-in, with the module's name.
    extra
        The extra that installs them all, for a command that needs several
        extras. By default the error names the extra of the absent package.

    Raises
    ------
    MissingExtraError
        If a package is absent. The error names the first one.
    """
    for module in modules:
        if not is_installed(module):
            package, smallest = _origin(module)
            raise MissingExtraError(package, extra or smallest, purpose)


def is_installed(module: str) -> bool:
    """Whether a top-level module can be imported. Nothing is imported."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False  # a plug-in may name a module of a package that is absent


def _origin(module: str) -> tuple[str, str | None]:
    """Return the package that brings a module, and the extra that brings the package."""
    for extra, packages in EXTRAS.items():
        if module in packages:
            return packages[module], extra
    return module, None
