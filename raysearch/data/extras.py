"""Formats that are read where a library of their own is installed: HEIC by pillow-heif, DICOM by pydicom."""

from __future__ import annotations

import importlib
import importlib.util
import io
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raysearch.data.dicom import read_dicom

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"heif")


@dataclass(frozen=True)
class Extra:
    """A format that needs a library.

    Attributes:
        name: of the format.
        endings: of its files, lower-case.
        library: the module that reads it.
        extra: of `pip install 'raysearch[extra]'`.
    """

    name: str
    endings: tuple[str, ...]
    library: str
    extra: str

    @property
    def way_out(self) -> str:
        """What makes its files readable."""
        return f"pip install 'raysearch[{self.extra}]'"


HEIF = Extra("HEIC", (".heic", ".heif", ".hif"), "pillow_heif", "heif")
DICOM = Extra("DICOM", (".dcm", ".dicom"), "pydicom", "dicom")
EXTRAS = (HEIF, DICOM)


@cache
def is_installed(library: str) -> bool:
    """Whether a library can be imported here."""
    return importlib.util.find_spec(library) is not None


def readable_endings() -> tuple[str, ...]:
    """Endings of the files that the libraries which are installed read."""
    return tuple(ending for extra in EXTRAS if is_installed(extra.library) for ending in extra.endings)


def extra_of(head: bytes) -> Extra | None:
    """The format of a file among these, by its first 132 bytes; None for any other."""
    if head[128:132] == b"DICM":
        return DICOM
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        return HEIF
    return None


def open_extra(data: bytes) -> Image.Image | NDArray[np.generic] | None:
    """The image of a file of one of these formats, as `decode` goes on with it; None for other files.

    Raises:
        ValueError: its library is not installed, or it is no single picture.
    """
    extra = extra_of(data[:132])
    if extra is None:
        return None
    if not is_installed(extra.library):
        raise ValueError(f"a {extra.name} file, which is read after {extra.way_out}; or convert it to PNG or JPEG")
    if extra is DICOM:
        return read_dicom(data)
    importlib.import_module(extra.library).register_heif_opener()
    return Image.open(io.BytesIO(data))
