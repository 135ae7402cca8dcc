"""Building, serving and passing on Kubernetes, without building any of it."""

import asyncio
import hashlib
import json
import os
import pathlib
import tempfile
import unittest
from unittest import mock

import aiohttp
from aiohttp import web
from lab import parts
from lab.kubernetes import distribution, images, programs, registry, upstream
from lab.kubernetes.toolchain import CannotBuild


class Programs(unittest.TestCase):
    def test_a_version_of_a_folder_is_that_code_under_another_name(self):
        minor = programs.minors()[0]
        release = programs.release(minor)
        self.assertEqual(distribution.version_of(minor), release)
        other = f"{minor}.99"
        self.assertEqual(distribution.version_of(other), other)
        made = programs.kubernetes(other)
        self.assertEqual(made.folder, minor)
        self.assertIn(f"-X k8s.io/component-base/version.gitVersion=v{other}", made.linker_flags())
        self.assertNotEqual(made.key(), programs.kubernetes(release).key())
        with self.assertRaisesRegex(CannotBuild, "1.20 cannot be built here"):
            distribution.version_of("1.20")

    def test_every_folder_takes_all_parts_of_one_release(self):
        for minor in programs.minors():
            text = (programs.SOURCES / minor / "go.mod").read_text()
            parts = [line.split("=>")[1].split() for line in text.splitlines() if "=>" in line]
            self.assertGreater(len(parts), 25)
            self.assertEqual({version for _, version in parts}, {f"v0.{programs.release(minor).split('.', 1)[1]}"})

    def test_old_builds_go_and_go_keeps_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            cache = pathlib.Path(folder)
            for age, name in enumerate(("etcd=3=a", "etcd=3=b", "etcd=3=c", "crictl=1=a", "crictl=1=b.new-7")):
                path = cache / "programs" / name
                path.mkdir(parents=True)
                os.utime(path, (age, age))
            (cache / "go/build").mkdir(parents=True)
            programs._tidy(cache)
            kept = sorted(path.name for path in (cache / "programs").iterdir())
            self.assertEqual(kept, ["crictl=1=a", "etcd=3=b", "etcd=3=c"])
            self.assertFalse((cache / "go/build").exists())

    def test_what_is_wanted_besides_comes_with_the_newest_release(self):
        self.assertEqual(parts.wanted("kube-vip,metrics-server"), (parts.DEFAULT, "kube-vip", "metrics-server"))
        self.assertEqual(parts.wanted("1.35,kube-vip"), ("1.35", "kube-vip"))
        self.assertEqual(parts.wanted("none"), ())

    def test_the_nearest_is_what_takes_no_build(self):
        cases = [(True, False, parts.DEFAULT), (True, True, parts.DEFAULT), (False, True, "upstream"), (False, False, "none")]
        for built, answers, nearest in cases:
            with (
                mock.patch.object(distribution, "is_built", return_value=built),
                mock.patch.object(upstream, "answers", return_value=answers),
            ):
                self.assertEqual(parts.nearest(), nearest)

    def test_an_empty_cache_holds_no_release(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertFalse(distribution.is_built(pathlib.Path(folder), parts.DEFAULT))


class Served(unittest.IsolatedAsyncioTestCase):
    async def serve(self, app: web.Application) -> str:
        runner = web.AppRunner(app)
        await runner.setup()
        self.addAsyncCleanup(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"127.0.0.1:{site._server.sockets[0].getsockname()[1]}"

    async def get(self, url: str) -> tuple[int, bytes, dict]:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status, await answer.read(), dict(answer.headers)

    async def test_an_image_is_found_by_tag_and_by_digest(self):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        program = folder / "program"
        program.write_bytes(b"\x7fELF")
        app = web.Application()
        registry.Registry(await asyncio.to_thread(_packed, folder, program)).add_routes(app)
        host = await self.serve(app)
        status, body, headers = await self.get(f"http://{host}/v2/pause/manifests/3.10?ns=registry.k8s.io")
        self.assertEqual((status, headers["Content-Type"]), (200, images.MANIFEST))
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        self.assertEqual(headers["Docker-Content-Digest"], digest)
        self.assertEqual((await self.get(f"http://{host}/v2/pause/manifests/{digest}"))[1], body)
        layer = json.loads(body)["layers"][0]
        _, content, _ = await self.get(f"http://{host}/v2/pause/blobs/{layer['digest']}")
        self.assertEqual((f"sha256:{hashlib.sha256(content).hexdigest()}", len(content)), (layer["digest"], layer["size"]))
        status, body, _ = await self.get(f"http://{host}/v2/pause/manifests/9")
        self.assertEqual((status, json.loads(body)["errors"][0]["code"]), (404, "MANIFEST_UNKNOWN"))

    async def test_upstream_is_asked_with_the_token_that_it_gives(self):
        asked = []

        async def image(request: web.Request) -> web.Response:
            asked.append(request.headers.get("Authorization"))
            if asked[-1] != "Bearer open":
                realm = f'Bearer realm="http://{request.host}/token",service="here",scope="repository:a/b:pull"'
                return web.Response(status=401, headers={"WWW-Authenticate": realm})
            return web.Response(text="blob", headers={"Docker-Content-Digest": "sha256:1"})

        async def token(request: web.Request) -> web.Response:
            self.assertEqual(dict(request.query), {"service": "here", "scope": "repository:a/b:pull"})
            return web.json_response({"token": "open"})

        async def key(_request: web.Request) -> web.Response:
            return web.Response(text="key")

        theirs = web.Application()
        theirs.router.add_get("/v2/a/b/blobs/{digest}", image)
        theirs.router.add_get("/token", token)
        theirs.router.add_get("/v1.36/deb/Release.key", key)
        host = await self.serve(theirs)
        ours = web.Application()
        upstream.Upstream(packages=f"http://{host}", scheme="http").add_routes(ours)
        lab = await self.serve(ours)
        for _ in range(2):
            status, body, headers = await self.get(f"http://{lab}/v2/a/b/blobs/sha256:1?ns={host}")
            self.assertEqual((status, body, headers["Docker-Content-Digest"]), (200, b"blob", "sha256:1"))
        self.assertEqual(asked, [None, "Bearer open", "Bearer open"])
        self.assertEqual((await self.get(f"http://{lab}/kubernetes/v1.36/deb/Release.key"))[1], b"key")
        self.assertEqual((await self.get(f"http://{lab}/v2/a/b/blobs/1?ns=127.0.0.1:1"))[0], 502)


def _packed(folder: pathlib.Path, program: pathlib.Path) -> pathlib.Path:
    with mock.patch.object(images.base, "key", return_value="none"):
        return images.build(folder, [images.Image(("pause:3.10",), (("pause", program),))])


if __name__ == "__main__":
    unittest.main()
