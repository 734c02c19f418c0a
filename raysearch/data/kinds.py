"""What kind of file lies in a folder of images, by its name and its first bytes: taken, passed over, or junk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath

from raysearch.data.decode import EXTENSIONS
from raysearch.data.extras import DICOM, HEIF, extra_of, is_installed, readable_endings

HEAD_BYTES = 132
"""Bytes of a file that tell what it is; DICOM's mark stands at 128."""

IMAGE = "image"
IMAGE_BY_CONTENT = "image by content"

_TO_PICTURES = "convert them to PNG or JPEG"
_UNREAD: dict[str, tuple[str, str]] = {
    ending: (what, remedy)
    for what, endings, remedy in (
        (
            "HEIC photos",
            " ".join(HEIF.endings),
            f"{HEIF.way_out}, or convert them to JPEG (sips or Preview on a Mac, heif-convert elsewhere)",
        ),
        ("camera raw photos", ".cr2 .cr3 .nef .arw .dng .orf .raf .rw2 .srw", "develop them to JPEG or TIFF"),
        ("images of a format that is not read", ".jp2 .j2k .jxl .tga .ico .exr .hdr .dds .pcx", _TO_PICTURES),
        ("drawings and layered images", ".svg .psd .ai .eps .xcf .indd", _TO_PICTURES),
        ("DICOM files", " ".join(DICOM.endings), f"{DICOM.way_out}, or {_TO_PICTURES}"),
        ("volumes", ".nii .nii.gz .mha .mhd .nrrd", "cut them into slices, as PNG or TIFF"),
        ("videos", ".mp4 .avi .mov .mkv .webm .m4v .mpg .mpeg .wmv", "cut them into frames"),
        ("archives", ".zip .tar .gz .tgz .rar .7z .bz2 .xz", "unpack them"),
        (
            "files of Hugging Face's cache",
            ".arrow",
            "save them as .parquet, e.g. by datasets.load_from_disk(DIR)[SPLIT].to_parquet(FILE)",
        ),
        ("files of arrays", ".npy .npz .h5 .hdf5 .mat .pt .pth .pkl .tfrecord .parquet", ""),
    )
    for ending in endings.split()
}
_PLAIN = frozenset((
    ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".rst", ".html", ".htm", ".css",
    ".js", ".py", ".ipynb", ".pdf", ".log", ".toml", ".ini", ".cfg", ".sh", ".bat", ".doc", ".docx", ".xls", ".xlsx",
    ".ppt", ".pptx", ".odt", ".ods", ".db", ".sqlite", ".url", ".lnk", ".bib", ".tex", ".r", ".m", ".cpp", ".h",
    ".so", ".dll", ".exe",
))  # fmt: skip
OTHER = "other files"

_JUNK = {
    "@eadir": "folders of a NAS's thumbnails",
    "#recycle": "recycle bins",
    "$recycle.bin": "recycle bins",
    "@recycle": "recycle bins",
    "@recently-snapshot": "snapshots of a NAS",
    "#snapshot": "snapshots of a NAS",
    "network trash folder": "recycle bins",
    "thumbnails": "folders of thumbnails",
    "_thumbnails": "folders of thumbnails",
    "_thumbs": "folders of thumbnails",
    "lost+found": "folders of the file system",
    "system volume information": "folders of the file system",
    "__pycache__": "folders of Python's",
    "__macosx": "folders of a Mac's archiver",
}
HIDDEN_FOLDERS, HIDDEN_IMAGES = "hidden folders", "hidden images"


def junk_folder(name: str) -> str | None:
    """What a folder is that no person put there for its images, by its name; None for any other."""
    if name in ("RECYCLED", "RECYCLER"):  # of old Windows; in small letters they are words
        return "recycle bins"
    return _JUNK.get(name.lower()) or (HIDDEN_FOLDERS if name.startswith(".") else None)


def kind_of(name: str, head: Callable[[], bytes]) -> tuple[str, str]:
    """The kind of a file, and what to do where it was meant as an image.

    Args:
        name: of the file, without folders.
        head: reads its first `HEAD_BYTES`; called only where the name does not tell.

    Returns:
        (`IMAGE` or `IMAGE_BY_CONTENT`, ""), ("HEIC photos", "convert them …"), ("", "") for what needs no word, ….
    """
    lower = name.lower()
    if name.startswith("."):
        return (HIDDEN_IMAGES, "") if lower.endswith(EXTENSIONS) else ("", "")
    if lower.endswith((*EXTENSIONS, *readable_endings())):
        return IMAGE, ""
    ending = ".nii.gz" if lower.endswith(".nii.gz") else PurePath(lower).suffix
    if ending in _UNREAD:
        return _UNREAD[ending]
    if ending in _PLAIN or lower == "thumbs.db":
        return OTHER, ""
    return by_content(head())


_AS_SOURCE = {
    ".txt": "if it lists images, save it as .csv with the first line path,label",
    ".lst": "if it lists images, save it as .csv with the first line path,label",
    ".xlsx": "save the sheet as .csv",
    ".xls": "save the sheet as .csv",
    ".ods": "save the sheet as .csv",
    ".json": "if it lists images, save it as .csv (path,label) or one object a line as .jsonl",
    ".yaml": "give the folder of the images itself",
    ".yml": "give the folder of the images itself",
    ".arrow": "save it as .parquet, e.g. by datasets.load_from_disk(DIR)[SPLIT].to_parquet(FILE)",
    ".npy": "save images and labels together: numpy.savez(FILE, train_images=…, train_labels=…)",
    ".tgz": "unpack it, and give the folder or the .tar",
    ".gz": "unpack it, and give the folder or the .tar",
}


def remedy_for(name: str) -> str:
    """What to do with a file of a known kind that is not read, by its name; "" where nothing is known."""
    lower = name.lower()
    if (given := _AS_SOURCE.get(PurePath(lower).suffix)) is not None and not lower.endswith(".nii.gz"):
        return given
    return _UNREAD.get(".nii.gz" if lower.endswith(".nii.gz") else PurePath(lower).suffix, ("", ""))[1]


def by_content(head: bytes) -> tuple[str, str]:
    """The kind of a file of an unknown ending, by its first bytes."""
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")):
        return IMAGE_BY_CONTENT, ""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return IMAGE_BY_CONTENT, ""
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0":
        return IMAGE_BY_CONTENT, ""
    if (extra := extra_of(head)) is not None:
        return (IMAGE_BY_CONTENT, "") if is_installed(extra.library) else _UNREAD[extra.endings[0]]
    if head[4:8] == b"ftyp":
        return (IMAGE_BY_CONTENT, "") if head[8:12] in (b"avif", b"avis") else _UNREAD[".mp4"]
    return OTHER, ""


def meant_as_image(kind: str) -> bool:
    """Whether files of a kind that is passed over may have been meant as images of a class."""
    return kind in {what for what, remedy in _UNREAD.values() if remedy and what != "archives"}
