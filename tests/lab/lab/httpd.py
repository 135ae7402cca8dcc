"""The lab's web server: machine image, package repositories, container images; for its machines and its API."""

import pathlib

from aiohttp import web

from .kubernetes.registry import Registry

IMAGE_PATH = "/images/machine.qcow2"


class FileServer:
    """Serves files as they are; knows nothing of what they are for."""

    def __init__(self, image: pathlib.Path, repository: pathlib.Path | None, registry: pathlib.Path | None, own: pathlib.Path):
        self.app = web.Application()
        self.app.router.add_get(IMAGE_PATH, lambda _request: web.FileResponse(image))
        own.mkdir(parents=True, exist_ok=True)
        self.app.router.add_static("/files", own)
        for name in ("debian", "kubernetes"):
            if repository is not None and (repository / name).is_dir():
                self.app.router.add_static(f"/{name}", repository / name)
        if registry is not None:
            Registry(registry).add_routes(self.app)
        self.runner = web.AppRunner(self.app, access_log=None)

    async def start(self, **where) -> None:
        """On a `sock` made elsewhere, or on a `host` and `port`."""
        await self.runner.setup()
        site = web.SockSite(self.runner, **where) if "sock" in where else web.TCPSite(self.runner, **where)
        await site.start()

    async def stop(self) -> None:
        await self.runner.cleanup()
