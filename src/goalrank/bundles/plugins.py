"""Code of other packages that a bundle refers to: what it needs, and whether it may run.

A bundle names the class of its ranker and of its reward. Loading one of another package runs that
package's code, so it happens only where the package is installed and the caller allows it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from goalrank.errors import BundleError
from goalrank.registry import is_foreign, package_of

ALLOW_VARIABLE = "GOALRANK_ALLOW_PLUGINS"


def needed_plugins(description: Mapping[str, Any]) -> dict[str, str]:
    """Packages that a manifest's classes come from, goalrank's own left out, with their versions.

    Returns:
        package → what pip installs, e.g. "goalrank-example==1.0"; the package's own name where no
        distribution holds it.
    """
    packages = sorted({package_of(path) for path in class_references(description)})
    if not packages:
        return {}
    holders = packages_distributions()
    return {package: _requirement(package, holders.get(package, [])) for package in packages}


def _requirement(package: str, distributions: Sequence[str]) -> str:
    if not distributions:
        return package
    return f"{distributions[0]}=={version(distributions[0])}"


def class_references(description: Any) -> Iterator[str]:
    """Class paths of other packages anywhere in a manifest's description."""
    if isinstance(description, Mapping):
        path = description.get("class")
        if isinstance(path, str) and is_foreign(path):
            yield path
        for value in description.values():
            yield from class_references(value)
    elif isinstance(description, list):
        for value in description:
            yield from class_references(value)


def check_plugins(folder: Path, manifest: Mapping[str, Any], allow: Sequence[str]) -> None:
    """Refuse a bundle whose classes are of packages that are not installed or not allowed.

    Nothing is imported.

    Args:
        folder: the bundle.
        manifest: content of its manifest.
        allow: packages whose code may run, besides those that `GOALRANK_ALLOW_PLUGINS` names (with
            commas between them); "*" allows all that is installed.

    Raises:
        BundleError: a package is not installed, or not allowed.
    """
    named = os.environ.get(ALLOW_VARIABLE, "").split(",")
    allowed = {name.strip() for name in (*allow, *named)}
    for path in class_references({key: manifest.get(key) for key in ("class", "reward")}):
        package = package_of(path)
        requirement = manifest.get("plugins", {}).get(package, package)
        if not _is_installed(package):
            raise BundleError(
                f"bundle '{folder}' needs the class '{path}', and the package '{package}' is not "
                f"installed; remedy: pip install '{requirement}', then allow it ({_ways(package)})"
            )
        if not allowed & {package, "*"}:
            raise BundleError(
                f"bundle '{folder}' needs the class '{path}' of the package '{package}', and code of "
                f"other packages runs only where it is allowed; remedy: if you trust '{package}', "
                f"allow it ({_ways(package)})"
            )


def _is_installed(package: str) -> bool:
    """Whether a package can be found; it is not imported."""
    try:
        return package in sys.modules or find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _ways(package: str) -> str:
    return (
        f"option: --allow-plugin {package}; in Python: allow=['{package}']; or the variable "
        f"{ALLOW_VARIABLE}={package}"
    )
