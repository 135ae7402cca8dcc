"""A running lab: network, file server, API and control socket, from `serve` to a clean end."""

import asyncio
import json
import logging
import pathlib
import shlex
import signal
from collections.abc import Callable

from . import accelerator, certs, cgroups, image, limits, parts, quickstart
from .cache import hold
from .control import Control
from .httpd import IMAGE_PATH, FileServer
from .kubernetes.distribution import minor_of
from .machines import Machine, Plan
from .machines.none import Nothing
from .machines.nspawn import Container
from .machines.qemu import VirtualMachine
from .network import Network
from .pve import LabPve
from .settings import Settings, cache

log = logging.getLogger("lab")


async def serve(settings: Settings) -> None:
    """Runs the lab until it is asked to stop, then takes everything away."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    lab = Lab(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lab.control.stop_asked.set)
    try:
        await lab.start()
        await lab.control.stop_asked.wait()
    finally:
        await lab.stop()


class Lab:
    """The parts of one lab, put together."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.network = Network(settings) if settings.backend != "none" else None
        self.image = small_image(settings) if settings.backend == "none" else image.get(cache())
        self.pve = LabPve(settings, cache(), self.make_machine)
        self.control = Control(self.pve)
        self.parts = None if settings.backend == "none" else parts.build(settings.kubernetes)
        self.held = [hold(folder) for folder in (self.image.folder, *(self.parts.folders() if self.parts else ()))]
        own = settings.folder / "files"
        self.files = FileServer(self.image.disk, self.parts, own)

    async def start(self) -> None:
        settings = self.settings
        if self.network:
            await self.network.up()
            await self.network.answer_router_solicitations()
            await self.network.give_addresses()
            await self.files.start(sock=await self.network.listen("0.0.0.0", 80))
        else:
            await self.files.start(host=settings.files_host, port=8080)
        ca, certificate, key = certs.make(settings.folder / "certs", settings.api_host)
        if settings.backend == "nspawn":
            limits.raise_them()
        if settings.backend == "qemu":
            # The answer is there, or nearly, when the first VM starts.
            self.proof = asyncio.ensure_future(accelerator.best(self.image.kernel))
        self.pve.preload(settings.guests)
        await self.pve.start(certificate, key)
        await self.control.start()
        write_facts(settings, self.environment(ca), self.pve.password)
        log.info("lab %s: %s, API at %s", settings.name, settings.backend, self.pve.url)

    async def stop(self) -> None:
        await self.pve.shut_down()
        await self.control.stop()
        await self.files.stop()
        if self.network:
            await self.network.down()
            for group in cgroups.leftovers(self.settings.tag):
                cgroups.remove(pathlib.Path(group).name)

    def make_machine(self, plan: Plan, on_exit: Callable[[Machine], None]) -> Machine:
        if self.settings.backend == "nspawn":
            return Container(plan, on_exit, self.network)
        if self.settings.backend == "qemu":
            return VirtualMachine(plan, on_exit, self.network, self.image.kernel)
        return Nothing(plan, on_exit)

    def environment(self, ca: str) -> dict[str, str]:
        """What a user of this lab sets."""
        settings = self.settings
        files = f"http://{settings.files_host}" + ("" if self.network else ":8080")
        values = {
            "GROUNDWORK_PROXMOX_ENDPOINTS": self.pve.url,
            "GROUNDWORK_PROXMOX_API_TOKEN": self.pve.token,
            "GROUNDWORK_PROXMOX_CA_CERT_PEM": ca,
            "LAB_AUDITOR_TOKEN": self.pve.auditor_token,
            "LAB_IMAGE": str(self.image.disk),
            "LAB_IMAGE_URL": files + IMAGE_PATH,
            "LAB_IMAGE_SHA256": self.image.sha256,
            "LAB_SUBNET": settings.subnet,
            "LAB_CONTROL": str(settings.control),
        }
        if self.parts:
            values["LAB_REPO_URL"] = f"{files}/debian"
        if self.parts and self.parts.versions:
            version = self.parts.versions[0]
            minor = minor_of(version)
            values["LAB_REGISTRY"] = files
            values["LAB_KUBERNETES_VERSION"] = version
            values["LAB_KUBERNETES_URL"] = f"{files}/kubernetes/v{minor}/deb"
            if not self.parts.upstream:
                values["LAB_KUBERNETES_KEY"] = self.parts.repository.key(minor)
        return values


def small_image(settings: Settings) -> image.Image:
    """Where nothing boots, an empty disk image will do."""
    folder = settings.folder / "image"
    folder.mkdir(parents=True, exist_ok=True)
    header = b"QFI\xfb" + (3).to_bytes(4, "big") + bytes(12) + (16).to_bytes(4, "big") + (1 << 30).to_bytes(8, "big")
    (folder / "image.qcow2").write_bytes(header.ljust(65536, b"\0"))
    return image.Image(folder, image.digest_of(folder / "image.qcow2"))


def write_facts(settings: Settings, environment: dict[str, str], password: str) -> None:
    """lab.env for shells, quickstart.tfvars.json for the example, and lab.json, which says that the lab is ready."""
    folder = settings.folder
    lines = [f"{key}={shlex.quote(value)}\n" for key, value in environment.items()]
    _write(folder / "lab.env", "".join(lines))
    _write(folder / "quickstart.tfvars.json", json.dumps(quickstart.variables(settings, environment), indent=2) + "\n")
    _write(folder / "quickstart_override.tf.json", json.dumps(quickstart.override(settings, environment), indent=2) + "\n")
    facts = {
        "name": settings.name,
        "backend": settings.backend,
        "number": settings.number,
        "env": environment,
        "root_password": password,
    }
    _write(folder / "lab.json", json.dumps(facts, indent=2) + "\n")


def _write(path: pathlib.Path, text: str) -> None:
    """Complete or not at all, and only for the user: it holds the token."""
    new = path.with_name(f".{path.name}.new")
    new.touch(mode=0o600)
    new.write_text(text)
    new.replace(path)
