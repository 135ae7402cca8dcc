"""The API object of a lab: fakepve with everything laid over it, and the cluster a lab has."""

import pathlib
import secrets
import ssl
import uuid
from collections.abc import Callable

from aiohttp import web
from fakepve import FakePve, shapes

from ..disks import Disks
from ..faults import Faults
from ..machines import Machine, Plan
from ..settings import LAST_REQUESTS, NODES, Settings
from .agent import Agent
from .config import Config
from .hotplug import Hotplug
from .local import Local
from .power import Power
from .rights import Rights
from .tasks import Tasks
from .traffic import ROOT_TOKEN, Runner, Traffic
from .transfer import Transfer
from .volumes import Volumes

GIB = 1024**3
TOKEN_USER = "terraform@pve"
TOKEN_ID = "terraform@pve!lab"
AUDITOR_USER = "plan@pve"
AUDITOR_ID = "plan@pve!lab"
# More than the provider needs (docs/guides/privileges.md), for whoever tries other calls; Sys.Modify stands for
# Sys.AccessNetwork. `fault only` narrows them: tests/it/privileges.rs applies with exactly those of the guide.
PRIVILEGES = (
    "VM.Allocate VM.Audit VM.Clone VM.Config.CDROM VM.Config.CPU VM.Config.Cloudinit VM.Config.Disk "
    "VM.Config.HWType VM.Config.Memory VM.Config.Network VM.Config.Options VM.Console VM.Migrate VM.PowerMgmt "
    "VM.Snapshot VM.Snapshot.Rollback VM.GuestAgent.Audit VM.GuestAgent.Unrestricted "
    "Datastore.Allocate Datastore.AllocateSpace Datastore.AllocateTemplate Datastore.Audit "
    "Pool.Allocate Pool.Audit SDN.Use Sys.Audit Sys.Modify"
).split()


class LabPve(Rights, Traffic, Tasks, Transfer, Config, Hotplug, Local, Volumes, Agent, Power, FakePve):
    """A Proxmox VE cluster of two nodes on one address."""

    def __init__(
        self,
        settings: Settings,
        cache: pathlib.Path,
        make_machine: Callable[[Plan, Callable[[Machine], None]], Machine],
    ):
        super().__init__(user="root@pam", password=secrets.token_urlsafe(12), host=settings.api_host)
        self.settings = settings
        self.cache = cache
        self.make_machine = make_machine
        self.faults = Faults()
        self.disks = Disks(settings.folder / "storage", real=settings.backend != "none")
        self.time_scale = 1.0
        self.network["latency"] = settings.latency
        for name in NODES:
            self.add_node(name)
        self.storages = storages()
        self.secret = str(uuid.uuid4())
        self.apitokens = {TOKEN_ID: self.secret, AUDITOR_ID: str(uuid.uuid4()), ROOT_TOKEN: str(uuid.uuid4())}
        self.users = {TOKEN_USER: self.password, AUDITOR_USER: self.password}
        self.grant(TOKEN_USER, "/", *PRIVILEGES)
        self.grant(AUDITOR_USER, "/", *shapes.ROLES["PVEAuditor"])
        self._setup_traffic()
        self._setup_tasks()
        self._setup_volumes()
        self._setup_power()
        self._setup_hotplug()

    @property
    def token(self) -> str:
        return f"{TOKEN_ID}={self.secret}"

    @property
    def auditor_token(self) -> str:
        """One that may look and change nothing: Proxmox VE's role PVEAuditor."""
        return f"{AUDITOR_ID}={self.apitokens[AUDITOR_ID]}"

    async def start(self, certfile: str, keyfile: str) -> None:
        """Listens, with pveproxy's patience for idle connections."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certfile, keyfile)
        self.runner = Runner(self._build_app(), keepalive_timeout=5, shutdown_timeout=LAST_REQUESTS, access_log=None)
        await self.runner.setup()
        await web.TCPSite(self.runner, self.host, self.port, ssl_context=context).start()

    async def shut_down(self) -> None:
        """Ends every machine, then stops listening."""
        for machine in list(self.machines.values()):
            self.machines.pop(machine.plan.vmid, None)
            await machine.kill()
        await self.stop()

    def preload(self, count: int) -> None:
        """Guests by the thousand, as the provider makes them, for tests of scale."""
        for index in range(count):
            vmid = 1000 + index
            config = {
                "name": f"guest-{index}",
                "cores": 2,
                "memory": "2048",
                "scsihw": "virtio-scsi-single",
                "scsi0": f"local-lvm:vm-{vmid}-disk-0,size=8G",
                "net0": f"virtio=BC:24:11:{index >> 16 & 255:02X}:{index >> 8 & 255:02X}:{index & 255:02X},bridge=vmbr0",
                "smbios1": f"uuid=00000000-0000-4000-8000-{vmid:012d}",
                "boot": "order=scsi0;net0",
                "serial0": "socket",
            }
            self.add_vm(vmid, config["name"], node=NODES[index % len(NODES)], config=config)


def storages() -> dict:
    """`local` as an installation has it, with imports allowed; disks on LVM-thin and in a folder."""
    files = "iso,vztmpl,import,snippets,backup"
    return {
        "local": {"type": "dir", "active": 1, "content": files, "path": "/var/lib/vz", **space(200)},
        "local-lvm": {
            "type": "lvmthin",
            "active": 1,
            "content": "images,rootdir",
            "vgname": "pve",
            "thinpool": "data",
            **space(500),
        },
        "data": {"type": "dir", "active": 1, "content": "images,iso", "path": "/mnt/data", **space(500)},
    }


def space(gib: int) -> dict:
    return {"files": set(), "volumes": {}, "total": gib * GIB, "avail": gib * GIB}
