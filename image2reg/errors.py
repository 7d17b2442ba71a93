"""The errors a user can meet, each with the exit code its command ends with.

Every message says what was wrong, where, what was seen, what is allowed and what to do next. Each kind is
also a builtin, so ``except ValueError`` keeps working.
"""

from __future__ import annotations

__all__ = [
    "BundleError",
    "ConfigurationError",
    "DataError",
    "ProjectError",
    "ResourceError",
    "TrainingError",
]


class ProjectError(Exception):
    """Base of every error this project raises on purpose."""

    exit_code = 1


class ConfigurationError(ProjectError, ValueError):
    """A wrong option, recipe or combination of options (exit code 2)."""

    exit_code = 2


class DataError(ProjectError, ValueError):
    """An image, table or folder that cannot be used as it is (exit code 3)."""

    exit_code = 3


class BundleError(ProjectError, ValueError):
    """A model bundle that is damaged, foreign or made for something else (exit code 4)."""

    exit_code = 4


class ResourceError(ProjectError, OSError):
    """Not enough memory or disk, a locked or read-only place (exit code 6)."""

    exit_code = 6


class TrainingError(ProjectError, ArithmeticError):
    """Training met a number that is not finite; the last good checkpoint is kept (exit code 1)."""
