"""What a lab is called and where it keeps its things."""

import dataclasses
import os
import pathlib

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
BACKENDS = ("nspawn", "qemu", "none")
NODES = ("pve1", "pve2")
BRIDGES = ("vmbr0", "vmbr1")
# Seconds. A lab that ends waits so long for requests that are not answered yet: whoever made them may be gone.
LAST_REQUESTS = 2.0


def cache() -> pathlib.Path:
    """Where built things are kept between labs."""
    base = os.environ.get("GROUNDWORK_CACHE") or pathlib.Path(
        os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache", "groundwork"
    )
    return pathlib.Path(base) / "lab"


def cache_of(part: str) -> pathlib.Path:
    """Where a part that outlives the lab's own things is kept: `packages`, `kubernetes`."""
    return cache().parent / part


@dataclasses.dataclass(frozen=True)
class Settings:
    """One lab, as `start` was asked for it. `number` tells labs on one host apart: it is in every address and name."""

    folder: pathlib.Path
    name: str
    backend: str
    number: int
    keep_uploads: bool = False
    guests: int = 0
    latency: float = 0.0
    memory_limit_mib: int = 0
    kubernetes: tuple[str, ...] = ()

    @property
    def tag(self) -> str:
        """Prefix of everything on the host that belongs to this lab: network names, control groups."""
        return f"gwlab{self.number}"

    @property
    def api_host(self) -> str:
        return f"127.77.{self.number}.1"

    @property
    def subnet(self) -> str:
        return f"10.77.{self.number}.0/24"

    def address(self, last: int) -> str:
        return f"10.77.{self.number}.{last}"

    @property
    def files_host(self) -> str:
        """Where images and packages are served: inside the lab's network, or on loopback when it has none."""
        return self.api_host if self.backend == "none" else self.address(1)

    @property
    def control(self) -> pathlib.Path:
        return self.folder / "control.sock"
