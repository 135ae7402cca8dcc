"""The lab's web server: machine image, package repositories, container images; for its machines and its API."""

import pathlib

from aiohttp import web

from .kubernetes.registry import Registry
from .kubernetes.upstream import Upstream
from .parts import Parts
from .settings import LAST_REQUESTS

IMAGE_PATH = "/images/machine.qcow2"


class FileServer:
    """Serves files as they are; knows nothing of what they are for."""

    def __init__(self, image: pathlib.Path, parts: Parts | None, own: pathlib.Path):
        self.app = web.Application()
        self.app.router.add_get(IMAGE_PATH, lambda _request: web.FileResponse(image))
        own.mkdir(parents=True, exist_ok=True)
        self.app.router.add_static("/files", own)
        if parts:
            self._add_parts(parts)
        self.runner = web.AppRunner(self.app, shutdown_timeout=LAST_REQUESTS, access_log=None)

    def _add_parts(self, parts: Parts) -> None:
        for name in ("debian", "kubernetes"):
            if (parts.repository.folder / name).is_dir():
                self.app.router.add_static(f"/{name}", parts.repository.folder / name)
        if parts.images:
            Registry(parts.images).add_routes(self.app)
        if parts.upstream:
            Upstream().add_routes(self.app)

    async def start(self, **where) -> None:
        """On a `sock` made elsewhere, or on a `host` and `port`."""
        await self.runner.setup()
        site = web.SockSite(self.runner, **where) if "sock" in where else web.TCPSite(self.runner, **where)
        await site.start()

    async def stop(self) -> None:
        await self.runner.cleanup()
