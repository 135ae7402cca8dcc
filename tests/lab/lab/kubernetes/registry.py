"""A container registry to pull from: what images.py packed, by the protocol's two reading calls.

It stands for every registry at once: a mirror is asked with the original's name in `?ns=`, and the names that the
lab has are of one registry each.
"""

import json
import pathlib

from aiohttp import web

from . import images


class Registry:
    """Serves one folder of images."""

    def __init__(self, folder: pathlib.Path):
        self.blobs = folder / "blobs"
        self.index = json.loads((folder / "index.json").read_text())

    def add_routes(self, app: web.Application) -> None:
        app.router.add_get("/v2/", self.hello)
        app.router.add_get("/v2/{name:.+}/manifests/{reference}", self.manifest)
        app.router.add_get("/v2/{name:.+}/blobs/sha256:{digest:[0-9a-f]{64}}", self.blob)

    async def hello(self, _request: web.Request) -> web.Response:
        return web.json_response({})

    async def manifest(self, request: web.Request) -> web.StreamResponse:
        tags = self.index.get(request.match_info["name"], {})
        reference = request.match_info["reference"]
        digest = reference if reference in tags.values() else tags.get(reference)
        if digest is None:
            return _missing("MANIFEST_UNKNOWN", f"{request.match_info['name']}:{reference} is not in the lab's registry")
        return self._content(digest.removeprefix("sha256:"), images.MANIFEST)

    async def blob(self, request: web.Request) -> web.StreamResponse:
        return self._content(request.match_info["digest"], "application/octet-stream")

    def _content(self, digest: str, kind: str) -> web.StreamResponse:
        file = self.blobs / digest
        if not file.is_file():
            return _missing("BLOB_UNKNOWN", f"sha256:{digest}")
        headers = {"Docker-Content-Digest": f"sha256:{digest}", "Content-Type": kind}
        return web.FileResponse(file, headers=headers)


def _missing(code: str, message: str) -> web.Response:
    return web.json_response({"errors": [{"code": code, "message": message}]}, status=404)
