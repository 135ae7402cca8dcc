"""What a started VM becomes: a container (`nspawn`), a virtual machine (`qemu`) or nothing (`none`)."""

import dataclasses
import pathlib
from collections.abc import Callable

from ..image import Image


class CannotStart(Exception):
    """The machine cannot be started; the message is what the start task ends with."""


@dataclasses.dataclass(frozen=True)
class Drive:
    """One drive of a VM. `file` is the disk's qcow2 or the medium's ISO, None for an empty CD-ROM drive."""

    key: str
    file: pathlib.Path | None
    cdrom: bool = False
    image: Image | None = None
    options: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Nic:
    """One network device of a VM."""

    index: int
    mac: str
    bridge: str
    link_down: bool = False


@dataclasses.dataclass(frozen=True)
class Plan:
    """A VM as it is to be started: its configuration, with everything looked up."""

    vmid: int
    name: str
    uuid: str
    folder: pathlib.Path
    config: dict
    drives: list[Drive]
    nics: list[Nic]

    def with_medium(self, key: str, file: pathlib.Path | None) -> "Plan":
        """The same with another medium in a CD-ROM drive: what a reset starts with."""
        drives = [dataclasses.replace(drive, file=file) if drive.key == key else drive for drive in self.drives]
        return dataclasses.replace(self, drives=drives)

    def boot_disk(self) -> Drive | None:
        """The first disk of the boot order; the first disk when there is no order."""
        disks = {drive.key: drive for drive in self.drives if not drive.cdrom and drive.file}
        order = str(self.config.get("boot", "")).removeprefix("order=").split(";")
        for key in [*order, *sorted(disks)]:
            if key in disks:
                return disks[key]
        return None


class Machine:
    """A running machine. Subclasses do what their kind can do; what it cannot is no error."""

    def __init__(self, plan: Plan, on_exit: Callable[["Machine"], None]):
        self.plan = plan
        self.on_exit = on_exit

    async def start(self) -> None:
        """Boots; raises CannotStart and leaves nothing behind when that fails."""

    async def kill(self) -> None:
        """Cuts the power and clears away everything but the disks."""

    async def press_power_button(self) -> None:
        """Asks the system to shut down; `on_exit` is called when it has."""

    async def reset(self) -> None:
        """What the reset button does."""

    async def change_medium(self, key: str, file: pathlib.Path | None) -> None:
        """Puts another medium into a CD-ROM drive, or none."""

    async def attach_disk(self, drive: Drive) -> bool:
        """Plugs a disk in; False when that has to wait for the next start."""
        return True

    async def detach_disk(self, key: str) -> bool:
        """Unplugs a disk; False when that has to wait for the next start."""
        return True

    async def plug_nic(self, nic: Nic) -> bool:
        """Plugs a network device in; False when that has to wait for the next start."""
        return True

    async def unplug_nic(self, index: int) -> bool:
        """Unplugs a network device; False when that has to wait for the next start."""
        return True

    async def grow_disk(self, key: str, size: int) -> None:
        """Tells the running system that a disk has grown; a file of a stopped VM is grown elsewhere."""

    async def execute(self, argv: list[str], stdin: bytes = b"") -> tuple[int, bytes, bytes]:
        """Runs a program inside, as root: (exit code, output, errors)."""
        raise NotImplementedError("there is no machine behind this VM")

    async def agent(self, command: str, **arguments) -> object | None:
        """The guest agent's answer to a command; None while no agent answers. Raises GuestError when it says no."""
        return None

    @property
    def grows_disks_itself(self) -> bool:
        """Whether `grow_disk` enlarges the file too."""
        return False
