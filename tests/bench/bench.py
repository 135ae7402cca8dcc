"""Measures what docs/benchmarks.md shows: start, creation, refresh, agent, machines. Run by scripts/bench.sh, as root.

Every figure is the median of several runs where a run is short; the lab's machines are containers unless said otherwise.
Figures are for comparing within one run on one computer, never for asserting.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAB = ROOT / "scripts/lab.sh"
MACHINES = ["cp-1", "worker-1"]
HEAD = """
terraform {{
  required_providers {{
    {name} = {{ source = "{source}" }}
  }}
}}
"""
VMS = """
resource "groundwork_vm" "x" {{
  count      = {count}
  node       = "pve1"
  name       = "vm-${{count.index}}"
  vmid       = 1000 + count.index
  cores      = 1
  memory_mib = 128
  started    = false
}}
"""
NEW_VMS = """
resource "groundwork_vm" "x" {{
  count      = {count}
  node       = "pve1"
  name       = "vm-${{count.index}}"
  memory_mib = 128
  started    = false
  disk "scsi0" {{
    storage  = "local-lvm"
    size_gib = 1
  }}
  network "net0" {{ bridge = "vmbr0" }}
}}
"""
IMAGE = """
resource "groundwork_image" "one" {{
  node      = "pve1"
  storage   = "local"
  file_name = "one.qcow2"
  url       = "{url}"
  checksum  = "sha256:{checksum}"
}}
resource "groundwork_vm" "template" {{
  node       = "pve1"
  name       = "template"
  vmid       = 900
  image      = groundwork_image.one.volume_id
  memory_mib = 128
  tags       = ["golden"]
  started    = false
  disk "scsi0" {{ storage = "local-lvm" }}
}}
"""
CLONES = """
resource "groundwork_vm" "clone" {{
  count      = {count}
  node       = "pve1"
  name       = "clone-${{count.index}}"
  clone {{ vmid = 900 }}
  memory_mib = 128
  started    = false
}}
"""
NOTHINGS = """
resource "memory_thing" "x" {{
  count = {count}
  name  = "thing-${{count.index}}"
}}
"""


def run(*command, **options):
    """A program's stdout; a failure ends the benchmark with what it said."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")
    return done.stdout


class Lab:
    """A running lab, stopped at the end of the block."""

    def __init__(self, backend, *arguments):
        self.folder = tempfile.mkdtemp(prefix="bench-lab-")
        self.arguments = ["start", "--backend", backend, "--name", f"bench-{backend}", "--dir", self.folder, *arguments]

    def __enter__(self):
        run(LAB, *self.arguments)
        self.facts = json.loads(pathlib.Path(self.folder, "lab.json").read_text())
        self.env = {name: str(value) for name, value in self.facts["env"].items()}
        return self

    def __exit__(self, *_):
        run(LAB, "stop", "--dir", self.folder)

    def call(self, verb, *arguments):
        return run(LAB, verb, "--dir", self.folder, *arguments)

    def exec(self, machine, line):
        return run(LAB, "exec", "--dir", self.folder, machine, "--", "/bin/sh", "-c", line)


class Terraform:
    """A working folder that uses the provider `source` of this build."""

    def __init__(self, provider, env, source="groundwork-tf/groundwork"):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bench-tf-"))
        rc = self.folder / "terraform.rc"
        override = f'    "{source}" = "{provider.parent}"\n'
        rc.write_text("provider_installation {\n  dev_overrides {\n" + override + "  }\n  direct {}\n}\n")
        self.env = {**os.environ, **env, "TF_CLI_CONFIG_FILE": str(rc), "CHECKPOINT_DISABLE": "1"}

    def write(self, name, text):
        (self.folder / name).write_text(text)

    def __call__(self, *arguments, **env):
        began = time.monotonic()
        out = run("terraform", *arguments, cwd=self.folder, env={**self.env, **env})
        return time.monotonic() - began, out


def start(provider, measure):
    """Time to the first answered call and resident memory, as the host process sees them."""
    runs = [json.loads(run(measure, provider)) for _ in range(11)]
    return {
        "provider start to first answered RPC, ms": (round(statistics.median(r["first_rpc_ms"] for r in runs), 1), "< 10"),
        "provider resident after the schema, MB": (round(statistics.median(r["rss_mb"] for r in runs), 1), "< 20"),
    }


def refresh(provider, idle, count, latency):
    """A refresh of many VMs against what Terraform alone needs for as many resources that do nothing.

    Those are of a provider too (the plugin layer's test provider, whose resources are small files), because most of
    Terraform's time goes into talking to one.
    """
    alone = Terraform(idle, {"MEMORY_DIR": tempfile.mkdtemp(prefix="bench-memory-")}, "test/memory")
    alone.write("main.tf", HEAD.format(name="memory", source="test/memory") + NOTHINGS.format(count=count))
    alone("apply", "-auto-approve", "-input=false")
    with Lab("none") as lab:
        terraform = Terraform(provider, lab.env)
        terraform.write("main.tf", HEAD.format(name="groundwork", source="groundwork-tf/groundwork") + VMS.format(count=count))
        terraform("apply", "-auto-approve", "-input=false", "-parallelism=20")
        lab.call("fault", "latency", str(latency))
        lab.call("requests", "--reset")
        terraform("plan", "-input=false", "-detailed-exitcode")
        requests = json.loads(lab.call("requests", "--json"))["total"]
        # In turn, so that whatever else the computer does falls on both.
        pairs = [[folder("plan", "-input=false", "-detailed-exitcode")[0] for folder in (terraform, alone)] for _ in range(5)]
        lab.call("fault", "clear")
    beyond = statistics.median(ours - nothing for ours, nothing in pairs)
    # Terraform asks for ten resources at once unless told otherwise.
    ideal = requests * latency / 10
    return {
        f"refresh of {count} VMs at {latency * 1000:.0f} ms, requests": (requests, f"≤ {count + 1}"),
        "… whole plan, s": (round(statistics.median(ours for ours, _ in pairs), 2), ""),
        "… Terraform's own time for as many resources that do nothing, s": (round(statistics.median(n for _, n in pairs), 2), ""),
        "… time beyond that, s": (round(beyond, 2), f"≤ {1.2 * ideal:.2f} (1.2 × requests × latency ÷ 10)"),
    }


def create(provider, count, bars):
    """Stopped VMs of one disk and one card, created, changed and destroyed with Terraform's own parallelism of ten."""
    rows = {}
    for latency, bar in bars.items():
        at = f"at {latency * 1000:.0f} ms"
        with Lab("none") as lab:
            terraform = Terraform(provider, lab.env)
            head = HEAD.format(name="groundwork", source="groundwork-tf/groundwork")
            vms = NEW_VMS.format(count=count)
            lab.call("fault", "latency", str(latency))

            def measured(verb, text):
                terraform.write("main.tf", head + text)
                lab.call("requests", "--reset")
                took, _ = terraform(verb, "-auto-approve", "-input=false")
                return round(took, 2), round(json.loads(lab.call("requests", "--json"))["total"] / count, 2)

            took, requests = measured("apply", vms)
            rows[f"creation of {count} stopped VMs {at}, s"] = (took, f"≤ {bar}")
            rows[f"… requests a VM {at}"] = (requests, "≤ 6")
            for what, verb, text in (
                ("their memory changed", "apply", vms.replace("memory_mib = 128", "memory_mib = 256")),
                ("their destruction", "destroy", vms),
                ("as many from an image", "apply", from_image(lab, vms)),
                ("as many linked clones beside them", "apply", from_image(lab, vms) + CLONES.format(count=count)),
            ):
                if "clone {" in text:
                    lab.call("api", "POST", "/nodes/pve1/qemu/900/template")
                took, requests = measured(verb, text)
                rows[f"… {what} {at}, s"] = (took, "")
                rows[f"… … requests a VM for {what} {at}, with the refresh"] = (requests, "")
            lab.call("fault", "clear")
            terraform("destroy", "-auto-approve", "-input=false")
    return rows


def from_image(lab, vms):
    """The same VMs, their disks imported from an image, and a template of it."""
    image = IMAGE.format(url=lab.env["LAB_IMAGE_URL"], checksum=lab.env["LAB_IMAGE_SHA256"])
    with_image = vms.replace("memory_mib = 128", "memory_mib = 128\n  image      = groundwork_image.one.volume_id")
    return image + with_image


def machines(provider):
    """The quickstart in containers: where the time of an apply goes, and what an agent costs at rest."""
    with Lab("nspawn") as lab:
        terraform = Terraform(provider, lab.env)
        run(provider, "pki", "init", terraform.folder / "pki")
        for file in (ROOT / "examples/quickstart").glob("*.tf"):
            terraform.write(file.name, file.read_text())
        terraform.write("terraform.tfvars.json", pathlib.Path(lab.folder, "quickstart.tfvars.json").read_text())
        terraform.write("lab_override.tf.json", pathlib.Path(lab.folder, "quickstart_override.tf.json").read_text())
        whole, _ = terraform("apply", "-auto-approve", "-input=false", "-no-color")
        # An agent says how long it planned only to those who debug it; as their drop-in does, and after the figures above.
        lab.exec("worker-1", DEBUG)
        again = statistics.median(terraform("plan", "-input=false", "-detailed-exitcode")[0] for _ in range(3))
        tale = Tale(lab, "worker-1")
        pid = lab.exec("worker-1", "systemctl show -P MainPID groundwork-agent").strip()
        resident = lab.exec("worker-1", f"sed -n 's/^VmRSS:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/{pid}/status")
        terraform("destroy", "-auto-approve", "-input=false", "-no-color")
        # Other cards under the same addresses, which this computer still remembers the old ones of.
        once_more, _ = terraform("apply", "-auto-approve", "-input=false", "-no-color")
        packages = packages_alone(lab)
    prepared = tale.at("run ended") - tale.at("run began")
    return {
        "quickstart in containers, whole apply, s": (round(whole, 1), ""),
        "… destroyed and applied again under the same addresses, s": (round(once_more, 1), f"≤ {whole + 2:.1f}"),
        "… VM started to agent enrolled, s": (round(tale.at("enrolled") - tale.booted, 1), ""),
        "… machine prepared, s": (round(prepared, 1), f"≤ {1.15 * packages:.1f} (1.15 × packages alone)"),
        "… its packages alone, by apt-get, on both machines at once, s": (round(packages, 1), ""),
        "… agent enrolled to worker joined, s": (round(tale.at("run ended", -1) - tale.at("enrolled"), 1), ""),
        "… a plan without changes, s": (round(again, 2), ""),
        "agent: plan of a Kubernetes machine without changes, ms": (statistics.median(tale.plans), "< 50"),
        "agent resident at rest, MB": (round(int(resident) / 1024, 1), "< 10"),
    }


DEBUG = """
mkdir -p /run/systemd/system/groundwork-agent.service.d
printf '[Service]\\nEnvironment=GROUNDWORK_LOG=debug\\n' >/run/systemd/system/groundwork-agent.service.d/debug.conf
systemctl daemon-reload && systemctl restart groundwork-agent
"""


class Tale:
    """What an agent's journal tells, in seconds since the epoch. Containers share the clock of this computer."""

    def __init__(self, lab, machine):
        lines = lab.exec(machine, "journalctl -o json -u groundwork-agent").splitlines()
        entries = [json.loads(line) for line in lines]
        self.lines = [(int(entry["__REALTIME_TIMESTAMP"]) / 1e6, entry["MESSAGE"]) for entry in entries]
        self.plans = [int(found[1]) for _, text in self.lines if (found := re.search(r"DEBUG planned changes=0 elapsed_ms=(\d+)", text))]
        started = int(lab.exec(machine, "cut -d' ' -f22 /proc/1/stat")) / os.sysconf("SC_CLK_TCK")
        self.booted = time.time() - float(pathlib.Path("/proc/uptime").read_text().split()[0]) + started

    def at(self, message, which=0):
        """When the line with this message was written: the first, or the one asked for."""
        return [when for when, text in self.lines if re.search(rf"INFO {message}\b", text)][which]


def packages_alone(lab):
    """The same packages, by apt-get alone on both machines at once as an apply does, after they were taken away."""
    names = "containerd kubeadm kubelet kubectl"
    quiet = "export DEBIAN_FRONTEND=noninteractive;"
    version = lab.env["LAB_KUBERNETES_VERSION"]
    versions = "containerd " + " ".join(f"{name}={version}-1.1" for name in ("kubeadm", "kubelet", "kubectl"))
    away = f"systemctl stop kubelet containerd; apt-get purge -y --allow-change-held-packages {names} && apt-get autoremove -y && apt-get clean"
    install = f"apt-get update && apt-get install -y --no-install-recommends {versions}"
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(lambda machine: lab.exec(machine, quiet + away), MACHINES))
        began = time.monotonic()
        list(pool.map(lambda machine: lab.exec(machine, quiet + install), MACHINES))
        return time.monotonic() - began


def sizes(provider, agent):
    return {
        "agent binary, MB": (round(agent.stat().st_size / 1e6, 2), "< 10"),
        "provider binary with the agent inside, MB": (round(provider.stat().st_size / 1e6, 1), ""),
    }


def release(folder):
    """What `scripts/release.sh` made: archives with both agents inside, and the agent's packages."""
    rows = {}
    for file in sorted(path for path in folder.iterdir() if path.suffix in (".zip", ".deb", ".rpm")):
        rows[f"release: `{file.name}`, MB"] = (round(file.stat().st_size / 1e6, 1), "≤ 16" if file.suffix == ".zip" else "")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--provider", type=pathlib.Path, required=True)
    parser.add_argument("--agent", type=pathlib.Path, required=True)
    parser.add_argument("--measure-start", type=pathlib.Path, required=True)
    parser.add_argument("--idle-provider", type=pathlib.Path, required=True, help="terraform-provider-memory")
    parser.add_argument("--vms", type=int, default=1000)
    parser.add_argument("--write", action="store_true", help="rewrite docs/benchmarks.md")
    parser.add_argument("--release", type=pathlib.Path, help="a folder that scripts/release.sh has made")
    parts = ["sizes", "release", "start", "machines", "create", "refresh"]
    parser.add_argument("--only", choices=parts, help="one part, and no file written")
    args = parser.parse_args()
    parts = {
        "sizes": lambda: sizes(args.provider, args.agent),
        "release": lambda: release(args.release) if args.release else {},
        "start": lambda: start(args.provider, args.measure_start),
        "machines": lambda: machines(args.provider),
        "create": lambda: create(args.provider, 100, {0.02: 2.0, 0.1: 7.0}),
        "refresh": lambda: refresh(args.provider, args.idle_provider, args.vms, 0.02),
    }
    rows = {}
    for name, part in parts.items():
        if args.only not in (None, name):
            continue
        found = part()
        rows.update(found)
        for name, (value, bar) in found.items():
            print(f"{name:60} {value!s:>10}  {bar}", flush=True)
    table = "| what | measured | bar |\n|---|---|---|\n"
    table += "".join(f"| {name} | {value} | {bar} |\n" for name, (value, bar) in rows.items())
    if args.write and not args.only:
        head = "# Benchmarks\n\nMade by `scripts/bench.sh --write`: medians, on two cores, against the lab on the same computer.\n\n"
        (ROOT / "docs/benchmarks.md").write_text(head + table)


if __name__ == "__main__":
    main()
