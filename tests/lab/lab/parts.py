"""What a lab with machines needs beside their image: package repositories and container images, built or looked up."""

import dataclasses
import pathlib

from . import image, packages
from .kubernetes import distribution, programs, toolchain
from .settings import cache_of

# The minor release of a lab that is asked for none: the newest.
DEFAULT = programs.minors()[0]
# In place of what is built here: the Kubernetes project's own packages and images, `upstream` or `upstream:VERSION`.
UPSTREAM = "upstream"
CANNOT_BUILD = (image.CannotBuild, packages.CannotBuild, toolchain.CannotBuild)


@dataclasses.dataclass(frozen=True)
class Parts:
    """The built parts."""

    repository: packages.Repository
    versions: tuple[str, ...] = ()
    images: pathlib.Path | None = None
    upstream: bool = False

    def folders(self) -> list[pathlib.Path]:
        """What a lab serves from, and needs as long as it runs."""
        return [self.repository.folder, *([self.images] if self.images else [])]


def wanted(text: str) -> tuple[str, ...]:
    """The releases named in an argument; the newest where it names only what is wanted besides."""
    names = () if text == "none" else tuple(name for name in text.split(",") if name)
    return (DEFAULT, *names) if names and set(names) <= set(extras()) else names


def extras() -> list[str]:
    """What is built only when it is asked for by name."""
    return sorted(programs.EXTRA)


def nearest() -> str:
    """The Kubernetes that costs no long build, as an argument of `start`: a built one, upstream's where it answers, or none."""
    if distribution.is_built(cache_of("kubernetes"), DEFAULT):
        return DEFAULT
    # Here, for every command of the lab starts with this file, and its HTTP library takes as long to load as most of them.
    from .kubernetes import upstream

    return UPSTREAM if upstream.answers(DEFAULT) else "none"


def build(kubernetes: tuple[str, ...]) -> Parts:
    """Everything for these releases of Kubernetes; a look-up when it is in the cache."""
    if not kubernetes:
        return Parts(packages.build(cache_of("packages"), None))
    name, _, version = kubernetes[0].partition(":")
    if name == UPSTREAM:
        # The distribution's containerd may still be too old.
        built = distribution.build_containerd(cache_of("kubernetes"))
        repository = packages.build(cache_of("packages"), built)
        return Parts(repository, (distribution.version_of(version or DEFAULT),), upstream=True)
    built = distribution.build(cache_of("kubernetes"), list(kubernetes))
    return Parts(packages.build(cache_of("packages"), built), built.versions, built.registry())


def sizes() -> str:
    """What the cache holds of Kubernetes, a line each."""
    folder = cache_of("kubernetes")
    lines = []
    for path in [*sorted((folder / "programs").iterdir()), *sorted((folder / "images").iterdir()), folder / "go/build"]:
        size = sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())
        lines.append(f"{size >> 20:>6} MiB  {path.relative_to(folder)}")
    return "\n".join(lines)
