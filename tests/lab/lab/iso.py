"""Reading seed images: what is on an uploaded ISO 9660 file."""

import pathlib

from .run import run, run_any

SECTOR = 2048


def label(file: pathlib.Path) -> str:
    """The volume's name; empty when the file is no ISO 9660 image."""
    with file.open("rb") as handle:
        handle.seek(16 * SECTOR)
        descriptor = handle.read(72)
    if descriptor[:6] != b"\x01CD001":
        return ""
    return descriptor[40:72].decode("ascii", errors="replace").strip()


async def extract(file: pathlib.Path, folder: pathlib.Path) -> None:
    """Unpacks the image into a folder, with its long names."""
    await run("bsdtar", "-xf", file, "-C", folder, "--no-same-owner")


async def read(file: pathlib.Path, name: str) -> bytes | None:
    """The content of the first file of this name in any folder of the image."""
    for member in (await run("bsdtar", "-tf", file)).splitlines():
        if pathlib.PurePosixPath(member).name == name:
            code, content, _ = await run_any("bsdtar", "-xOf", file, member)
            return content if code == 0 else None
    return None
