"""Files that come in: uploads as a stream, downloads from a URL, both kept and checked."""

import pathlib
import re
import shutil
import time

import aiohttp
from fakepve import PveError, TaskError
from fakepve.routing import split_list
from fakepve.server import USER, ok, params

from ..disks import digest, virtual_size

EXTENSIONS = {
    "iso": r".+\.(iso|img)",
    "vztmpl": r".+\.tar\.(gz|xz|zst|bz2)|.+\.tar",
    "import": r".+\.(ova|qcow2|raw|vmdk)",
}
ALGORITHMS = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")
TEXT_PARTS = ("content", "checksum-algorithm", "checksum")


class Transfer:
    """Mixin of LabPve."""

    async def _read_body(self, request):
        # An upload is read by its handler, part by part; it may be larger than memory.
        return b"" if is_upload(request) else await super()._read_body(request)

    async def _upload(self, request):
        name, store = self._file_storage(request, "upload")
        user = request[USER]
        self.require(user, f"/storage/{name}", "Datastore.AllocateTemplate")
        if request.content_length is None or request.content_type != "multipart/form-data":
            raise PveError(501, "upload needs multipart/form-data with a Content-Length")
        fields, filename, file = await self._receive(request)
        try:
            fields = {**{key: request.query[key] for key in TEXT_PARTS if key in request.query}, **fields}
            content, filename = self._check_upload(name, store, fields, filename)
        except PveError:
            file.unlink(missing_ok=True)
            raise
        if self.settings.keep_uploads:
            kept = self.settings.folder / "uploads"
            kept.mkdir(exist_ok=True, mode=0o700)
            shutil.copy2(file, kept / f"{len(list(kept.iterdir())):05}-{filename}")

        async def body():
            try:
                self._check_sum(file, fields.get("checksum-algorithm"), fields.get("checksum"))
                await self._keep(request.match_info["node"], f"{name}:{content}/{filename}", file)
            finally:
                file.unlink(missing_ok=True)

        return ok(await self.task(request.match_info["node"], "imgcopy", "", user, body))

    async def _receive(self, request) -> tuple[dict, str, pathlib.Path]:
        """Text parts, then the file part, which must come last."""
        fields: dict[str, str] = {}
        file = self._temporary("upload")
        async for part in await request.multipart():
            if part.name in TEXT_PARTS:
                fields[part.name] = await part.text()
            elif part.name == "filename" and part.filename:
                with file.open("wb") as out:
                    while block := await part.read_chunk(1 << 18):
                        out.write(block)
                return fields, part.filename, file
            else:
                raise PveError(400, f"unexpected form field '{part.name}'")
        raise PveError(400, "bad upload request: no file")

    def _check_upload(self, name: str, store: dict, fields: dict, filename: str) -> tuple[str, str]:
        content = fields.get("content", "")
        if content not in EXTENSIONS:
            raise invalid(content=f"value '{content}' does not have a value in the enumeration 'iso, vztmpl, import'")
        self._need_file_storage(store, "can't upload to storage type '{0}'")
        if content not in split_list(store.get("content")):
            raise PveError(500, f"storage '{name}' does not support '{content}' content")
        if ("checksum" in fields) != ("checksum-algorithm" in fields):
            missing = "checksum" if "checksum-algorithm" in fields else "checksum-algorithm"
            raise invalid(**{missing: f"missing property required by '{'checksum-algorithm' if missing == 'checksum' else 'checksum'}'"})
        return content, clean_name(content, filename)

    async def _download_url(self, request):
        name, store = self._file_storage(request, "download")
        user, node = request[USER], request.match_info["node"]
        self.require(user, f"/storage/{name}", "Datastore.AllocateTemplate")
        both = all(self.allowed(user, "/", privilege) for privilege in ("Sys.Audit", "Sys.Modify"))
        if not both and not self.allowed(user, f"/nodes/{node}", "Sys.AccessNetwork"):
            # Where one of several would do, none is named. Source: pve-access-control, exec_api2_perm_check.
            raise PveError(403, "Permission check failed")
        p = self._verify(request, await params(request))
        self._need_file_storage(store, "can't upload to storage type '{0}', not a file based storage!")
        content, url = p["content"], p["url"]
        if content not in split_list(store.get("content")):
            raise PveError(500, f"storage '{name}' is not configured for content-type '{content}'")
        filename = clean_name(content, p["filename"])
        sum_wanted = (p.get("checksum-algorithm"), p.get("checksum"))

        async def body():
            volid = f"{name}:{content}/{filename}"
            there = self.disks.path(volid)
            if there.exists() and self.is_on(node, volid):
                return already_there(there, self._volume_path(name, f"{content}/{filename}", content), *sum_wanted)
            file = self._temporary("download")
            try:
                await fetch(url, file)
                self._check_sum(file, *sum_wanted)
                await self._keep(node, f"{name}:{content}/{filename}", file)
            finally:
                file.unlink(missing_ok=True)
            return None

        return ok(await self.task(node, "download", name, user, body, log=[f"downloading {url} to {filename}"]))

    def _temporary(self, kind: str) -> pathlib.Path:
        folder = self.settings.folder / "incoming"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{kind}-{time.monotonic_ns()}"

    @staticmethod
    def _check_sum(file: pathlib.Path, algorithm: str | None, wanted: str | None) -> None:
        if algorithm and wanted:
            got = digest(file, algorithm)
            if got != wanted.lower():
                raise TaskError(f"checksum mismatch: got '{got}' != expect '{wanted}'")

    async def _keep(self, node: str, volid: str, file: pathlib.Path) -> None:
        """Puts a finished file on a node's storage, over an older one of the name."""
        storage, _, volname = volid.partition(":")
        content, _, filename = volname.partition("/")
        store = self.storages[storage]
        old = store.setdefault("volumes", {}).pop(volname, {})
        if old and "avail" in store:
            store["avail"] += int(old["size"])
        self.store_file(storage, filename, file.stat().st_size, content)
        self.place(volid, node, *old.get("nodes", ()))
        if content == "import":
            store["volumes"][volname]["virtual-size"] = virtual_size(file)
        await self.disks.adopt(volid, file)

    def sweep(self) -> None:
        """Removes files whose volume is gone: fakepve forgets deleted content without asking."""
        for name, store in self.storages.items():
            self.disks.sweep(name, set(store.get("volumes", {})))


def is_upload(request) -> bool:
    return request.method == "POST" and request.path.endswith("/upload") and "/storage/" in request.path


def clean_name(content: str, filename: str) -> str:
    name = re.sub(r"[^a-zA-Z0-9_.-]", "_", pathlib.PurePath(filename).name)
    flags = re.IGNORECASE if content == "iso" else re.NOFLAG
    if not re.fullmatch(EXTENSIONS[content], name, flags) or len(name) > 255:
        text = "invalid filename or wrong extension" if content == "import" else "wrong file extension"
        raise invalid(filename=text)
    return name


def already_there(file: pathlib.Path, path: str, algorithm: str | None, wanted: str | None) -> str:
    if not (algorithm and wanted):
        raise TaskError(f"refusing to override existing file '{path}'")
    got = digest(file, algorithm)
    if got != wanted.lower():
        raise TaskError(f"checksum mismatch: got '{got}' != expect '{wanted}', aborting")
    return "OK, got correct file already, no need to download"


async def fetch(url: str, file: pathlib.Path) -> None:
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            if answer.status != 200:
                raise TaskError(f"download failed: {url}: HTTP status {answer.status} {answer.reason}")
            with file.open("wb") as out:
                async for block in answer.content.iter_chunked(1 << 18):
                    out.write(block)
    except (aiohttp.ClientError, OSError) as problem:
        raise TaskError(f"download failed: {url}: {problem}") from problem


def invalid(**fields: str) -> PveError:
    return PveError(400, "Parameter verification failed.", fields)
