"""How the real programs speak: YAML as Go writes it, log lines as klog writes them, the ends of failed commands."""

import datetime
import os
import re
import sys

import yaml


class Failure(Exception):
    """Ends the command with a message on stderr; 3 stands for a configuration that does not validate."""

    def __init__(self, message: str, code: int = 1):
        super().__init__(message)
        self.code = code


class Lacking(Failure):
    """The real program can do it, the stand-in cannot."""

    def __init__(self, what: str):
        super().__init__(f"the Groundwork lab stand-in lacks this: {what}", 64)


def out(line: str = "") -> None:
    print(line, flush=True)


def warning(source: str, text: str, level: str = "W") -> None:
    now = datetime.datetime.now(datetime.timezone.utc)
    print(f"{level}{now:%m%d %H:%M:%S.%f} {os.getpid():>7} {source}] {text}", file=sys.stderr, flush=True)


def now() -> str:
    return stamp(datetime.datetime.now(datetime.timezone.utc))


def stamp(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def quoted(text: str) -> str:
    """As Go's %q."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
SECONDS = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}


def seconds(duration: str) -> float:
    """Seconds of a Go duration such as 24h0m0s; raises ValueError."""
    if duration == "0":
        return 0
    if not re.fullmatch(rf"(?:{DURATION.pattern})+", duration):
        raise ValueError(f"time: invalid duration {quoted(duration)}")
    return sum(float(number) * SECONDS[unit] for number, unit in DURATION.findall(duration))


def duration(value: str) -> str:
    """A duration in Go's own spelling: 24h becomes 24h0m0s."""
    total = seconds(value)
    if total == 0:
        return "0s"
    whole = int(total)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


class DuplicateKey(Exception):
    """A mapping has a key twice."""

    def __init__(self, line: int, key: str):
        super().__init__(f'  line {line}: key "{key}" already set in map')


class _Loader(yaml.SafeLoader):
    """Refuses keys given twice, and leaves dates alone."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise DuplicateKey(key.start_mark.line + 1, key.value)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.construct_yaml_str)


def load(text: str):
    return yaml.load(text, _Loader)


def split_documents(text: str) -> list[str]:
    """The documents of a file, without the empty ones."""
    parts = re.split(r"(?m)^---[ \t]*(?:#.*)?$\n?", text)
    return [part for part in parts if any(line.strip() and not line.lstrip().startswith("#") for line in part.splitlines())]


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data):
        return True


def _string(dumper, text: str):
    if "\n" in text:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|")
    plain = dumper.resolve(yaml.ScalarNode, text, (True, False)) == "tag:yaml.org,2002:str"
    ambiguous = not plain or text == "" or re.search(r"^[\s&*!|>'\"%@`{}\[\],#]|^[-?:](\s|$)|: |:$| #|\s$", text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if ambiguous else None)


_Dumper.add_representer(str, _string)


def dump(value) -> str:
    """YAML with sorted keys, as the real programs print it."""
    return yaml.dump(value, Dumper=_Dumper, default_flow_style=False, sort_keys=True, width=10**9, allow_unicode=True)
