"""Files that hold one channel each: those of one channel, chosen by what stands in their names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from image2reg.errors import ConfigurationError
from image2reg.tables.tokens import has_token, without_token, without_wavelength

__all__ = ["files_of_channel", "named_for", "names_channel"]


def names_channel(name: str, channel: str | int | None) -> bool:
    """Whether a file's name says that it holds this channel; a position (from 0) is never looked for in names."""
    return isinstance(channel, str) and not channel.strip().isdigit() and has_token(name, channel)


def named_for(names: Sequence[str], channel: str | int | None) -> list[bool]:
    """Say which files are named for a channel: by their own name, or by a folder where no file's own name gives it.

    Examples
    --------
    >>> named_for(["DAPI/A01", "GFP/A01"], "DAPI"), named_for(["DAPI_day1/A01_DAPI", "DAPI_day1/A01_GFP"], "DAPI")
    ([True, False], [True, False])
    """
    own = [names_channel(name.rpartition("/")[2], channel) for name in names]
    return own if any(own) else [names_channel(name, channel) for name in names]


def files_of_channel(names: Sequence[str], channel: str | int | None) -> list[bool]:
    """Choose the files of a channel where others of the same fields are listed beside them.

    Parameters
    ----------
    names : sequence of str
        Paths without suffix.
    channel : str, int or None

    Returns
    -------
    list of bool
        False for a file that differs from one of the channel in one piece of its name; others may hold the channel.

    Raises
    ------
    ConfigurationError
        No channel is asked for, and names that differ in the number of a channel (``w1``, ``ch2``) stand side by side.

    Examples
    --------
    >>> files_of_channel(["A01_s1_w1", "A01_s1_w2", "A02_s1"], "w1")
    [True, False, True]
    """
    if channel is None:
        field_of = {name: without_wavelength(name) for name in names}
        n_files = Counter(field_of.values())
        same = [name for name, field in field_of.items() if n_files[field] > 1]
        if same:
            raise ConfigurationError(
                f"{len(same)} files are channels of fields that others show too, such as {same[:2]}. Say which "
                "channel is meant, as the names do, for example --channel w1; where each is a field of its own, "
                "--channel 0."
            )
        return [True] * len(names)
    chosen = named_for(names, channel)
    own = {
        without_token(name, str(channel)) for name, is_chosen in zip(names, chosen, strict=True) if is_chosen
    }

    def is_other(name: str) -> bool:
        name = without_token(name, str(channel)) if own else name  # of a folder that is called so
        pieces = {piece for piece in re.split(r"[-_ ./]+", name) if piece}
        return bool(own) and any(without_token(name, piece) in own for piece in pieces)

    return [is_chosen or not is_other(name) for name, is_chosen in zip(names, chosen, strict=True)]
