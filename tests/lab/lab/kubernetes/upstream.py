"""The Kubernetes project's own packages and images, passed on to machines that have no way out themselves.

For a host that has one: `start --kubernetes upstream`. Machines ask the lab at the same addresses as ever.
"""

import contextlib
import http.client
import re
import urllib.request

import aiohttp
from aiohttp import web

PACKAGES = "https://pkgs.k8s.io/core:/stable:"
# What goes back and forth unchanged. Everything else is between two neighbours, or would tell who asks.
ASKED = ("Accept", "Range", "If-Modified-Since", "If-None-Match")
ANSWERED = ("Content-Type", "Content-Length", "Content-Range", "Accept-Ranges", "Last-Modified", "ETag", "Docker-Content-Digest")
CHUNK = 256 * 1024
# Seconds that a host without a way out is waited for.
PATIENCE = 5
DEFAULT_REGISTRY = "registry.k8s.io"
# Docker's registry answers at another name than its images have.
HOSTS = {"docker.io": "registry-1.docker.io"}


def answers(minor: str) -> bool:
    """Whether this host has a way to the packages of a minor release."""
    try:
        with urllib.request.urlopen(f"{PACKAGES}/v{minor}/deb/InRelease", timeout=PATIENCE) as answer:
            return answer.status == 200
    except (OSError, http.client.HTTPException):
        return False


class Upstream:
    """Passes requests on; remembers the tokens that registries give to everybody."""

    def __init__(self, packages: str = PACKAGES, scheme: str = "https"):
        self.packages = packages
        self.scheme = scheme
        self.tokens: dict[str, str] = {}
        self.session: aiohttp.ClientSession | None = None

    def add_routes(self, app: web.Application) -> None:
        app.router.add_get(r"/kubernetes/{path:v1\.\d+/deb/.*}", self.package)
        app.router.add_get("/v2/", self.hello)
        app.router.add_get(r"/v2/{path:.+/(?:manifests|blobs)/[^/]+}", self.image)
        app.cleanup_ctx.append(self._session)

    async def _session(self, _app: web.Application):
        async with aiohttp.ClientSession(auto_decompress=False) as self.session:
            yield

    async def hello(self, _request: web.Request) -> web.Response:
        return web.json_response({})

    async def package(self, request: web.Request) -> web.StreamResponse:
        return await self._pass_on(request, f"{self.packages}/{request.match_info['path']}", {})

    async def image(self, request: web.Request) -> web.StreamResponse:
        registry = request.query.get("ns", DEFAULT_REGISTRY)
        path = request.match_info["path"]
        url = f"{self.scheme}://{HOSTS.get(registry, registry)}/v2/{path}"
        scope = f"{registry}/{re.split('/(?:manifests|blobs)/', path)[0]}"
        return await self._pass_on(request, url, self._authorization(scope), scope)

    def _authorization(self, scope: str) -> dict[str, str]:
        token = self.tokens.get(scope)
        return {"Authorization": f"Bearer {token}"} if token else {}

    async def _pass_on(self, request: web.Request, url: str, more: dict[str, str], scope: str = "") -> web.StreamResponse:
        asked = {name: request.headers[name] for name in ASKED if name in request.headers}
        try:
            answer = await self.session.request(request.method, url, headers={**asked, **more})
            if answer.status == web.HTTPUnauthorized.status_code and scope:
                challenge = answer.headers.get("WWW-Authenticate", "")
                answer.release()
                self.tokens[scope] = await self._token(challenge)
                answer = await self.session.request(request.method, url, headers={**asked, **self._authorization(scope)})
        except aiohttp.ClientError as problem:
            return web.Response(status=502, text=f"{url}: {problem}\n")
        async with contextlib.aclosing(_Closing(answer)):
            return await _stream(request, answer)

    async def _token(self, challenge: str) -> str:
        """What a registry gives to whoever asks for a public image."""
        facts = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        wanted = {name: facts[name] for name in ("service", "scope") if name in facts}
        async with self.session.get(facts.get("realm", ""), params=wanted) as answer:
            given = await answer.json()
        return given.get("token") or given.get("access_token") or ""


class _Closing:
    """An answer that is let go of however its reader ends."""

    def __init__(self, answer: aiohttp.ClientResponse):
        self.answer = answer

    async def aclose(self) -> None:
        self.answer.release()


async def _stream(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    headers = {name: answer.headers[name] for name in ANSWERED if name in answer.headers}
    response = web.StreamResponse(status=answer.status, headers=headers)
    await response.prepare(request)
    if request.method != "HEAD":
        async for chunk in answer.content.iter_chunked(CHUNK):
            await response.write(chunk)
    await response.write_eof()
    return response
