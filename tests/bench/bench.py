"""Measures what docs/benchmarks.md shows: start, refresh, agent, machines. Run by scripts/bench.sh, as root.

Every figure is the median of several runs where a run is short; the lab's machines are containers unless said otherwise.
Figures are for comparing within one run on one computer, never for asserting.
"""

import argparse
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
HEAD = 'terraform {\n  required_providers {\n    groundwork = { source = "groundwork-tf/groundwork" }\n  }\n}\n'


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
    """A working folder with the provider of this build."""

    def __init__(self, provider, env):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bench-tf-"))
        rc = self.folder / "terraform.rc"
        override = f'    "groundwork-tf/groundwork" = "{provider.parent}"\n'
        rc.write_text("provider_installation {\n  dev_overrides {\n" + override + "  }\n  direct {}\n}\n")
        self.env = {**os.environ, **env, "TF_CLI_CONFIG_FILE": str(rc), "CHECKPOINT_DISABLE": "1"}
        run(provider, "pki", "init", self.folder / "pki")

    def __call__(self, *arguments, **env):
        began = time.monotonic()
        out = run("terraform", *arguments, cwd=self.folder, env={**self.env, **env})
        return time.monotonic() - began, out


def start(provider, measure):
    """Time to the first answered call and resident memory, as the host process sees them."""
    runs = [json.loads(run(measure, provider)) for _ in range(11)]
    return {
        "provider start to first answered RPC, ms": (statistics.median(r["first_rpc_ms"] for r in runs), "< 10"),
        "provider resident after the schema, MB": (statistics.median(r["rss_mb"] for r in runs), "< 20"),
    }


def refresh(provider, count, latency):
    """A refresh of many VMs against what Terraform alone needs for as many resources that do nothing."""
    bare = Terraform(provider, {})
    (bare.folder / "main.tf").write_text(f'resource "terraform_data" "x" {{\n  count = {count}\n}}\n')
    bare("init", "-input=false")
    bare("apply", "-auto-approve", "-input=false")
    alone = statistics.median(bare("plan", "-input=false")[0] for _ in range(3))
    with Lab("none") as lab:
        terraform = Terraform(provider, lab.env)
        vm = (
            f'{HEAD}resource "groundwork_vm" "x" {{\n  count = {count}\n  node = "pve1"\n  name = "vm-${{count.index}}"\n'
            "  vmid = 1000 + count.index\n  cores = 1\n  memory_mib = 128\n  started = false\n}\n"
        )
        (terraform.folder / "main.tf").write_text(vm)
        terraform("apply", "-auto-approve", "-input=false", "-parallelism=20")
        lab.call("fault", "latency", str(latency))
        lab.call("requests", "--reset")
        took, _ = terraform("plan", "-input=false", "-detailed-exitcode")
        requests = sum(entry["count"] for entry in json.loads(lab.call("requests", "--json")))
        lab.call("fault", "clear")
    # Terraform asks for ten resources at once unless told otherwise.
    ideal = requests * latency / 10
    return {
        f"refresh of {count} VMs at {latency * 1000:.0f} ms, requests": (requests, f"≤ {count + 1}"),
        "… time beyond Terraform's own, s": (round(took - alone, 2), f"≤ {1.2 * ideal:.2f}"),
        "… Terraform's own time for as many no-op resources, s": (round(alone, 2), ""),
    }


def machines(provider, backend):
    """The quickstart: where the time of an apply goes, and what an agent costs at rest."""
    with Lab(backend) as lab:
        terraform = Terraform(provider, lab.env)
        for file in (ROOT / "examples/quickstart").glob("*.tf"):
            (terraform.folder / file.name).write_text(file.read_text())
        values = pathlib.Path(lab.folder, "quickstart.tfvars.json").read_text()
        (terraform.folder / "terraform.tfvars.json").write_text(values)
        whole, out = terraform("apply", "-auto-approve", "-input=false", "-no-color")
        took = {name: seconds(text) for name, text in re.findall(r"^(groundwork_\S+): Creation complete after (\S+)", out, re.M)}
        packages = packages_alone(lab)
        pid = lab.exec("cp-1", "systemctl show -P MainPID groundwork-agent").strip()
        resident = lab.exec("cp-1", f"sed -n 's/^VmRSS:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/{pid}/status")
        again, _ = terraform("plan", "-input=false", "-detailed-exitcode")
    machine = max(value for name, value in took.items() if name.startswith("groundwork_machine"))
    return {
        f"quickstart on {backend}, whole apply, s": (round(whole, 1), ""),
        "… VM created, booted and enrolled, s": (max(v for n, v in took.items() if n.startswith("groundwork_vm")), ""),
        "… machine prepared, s": (machine, f"≤ {1.15 * packages:.1f} (1.15 × packages alone)"),
        "… its packages installed alone, s": (round(packages, 1), ""),
        "… cluster initialised and joined, s": (took.get("groundwork_cluster.main"), ""),
        "… a plan without changes, s": (round(again, 2), ""),
        "agent resident at rest, MB": (round(int(resident) / 1024, 1), "< 10"),
    }


def packages_alone(lab):
    """The same packages, installed by apt-get alone into the worker after they were taken away."""
    names = "containerd kubeadm kubelet kubectl"
    lab.exec("worker-1", f"systemctl stop kubelet containerd; DEBIAN_FRONTEND=noninteractive apt-get purge -y --allow-change-held-packages {names} && apt-get autoremove -y && apt-get clean")
    began = time.monotonic()
    lab.exec("worker-1", "DEBIAN_FRONTEND=noninteractive apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends containerd kubeadm=1.28.4-1.1 kubelet=1.28.4-1.1 kubectl=1.28.4-1.1")
    return time.monotonic() - began


def seconds(text):
    """Terraform's `1m5s` as a number."""
    parts = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text).groups("0")
    return int(parts[0]) * 3600 + int(parts[1]) * 60 + int(parts[2])


def sizes(provider, agent):
    return {
        "agent binary, MB": (round(agent.stat().st_size / 1e6, 2), "< 10"),
        "provider binary with the agent inside, MB": (round(provider.stat().st_size / 1e6, 1), ""),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--provider", type=pathlib.Path, required=True)
    parser.add_argument("--agent", type=pathlib.Path, required=True)
    parser.add_argument("--measure-start", type=pathlib.Path, required=True)
    parser.add_argument("--vms", type=int, default=1000)
    parser.add_argument("--write", action="store_true", help="rewrite docs/benchmarks.md")
    args = parser.parse_args()
    rows = {}
    for part in (
        lambda: sizes(args.provider, args.agent),
        lambda: start(args.provider, args.measure_start),
        lambda: machines(args.provider, "nspawn"),
        lambda: refresh(args.provider, args.vms, 0.02),
    ):
        found = part()
        rows.update(found)
        for name, (value, bar) in found.items():
            print(f"{name:60} {value!s:>10}  {bar}", flush=True)
    table = "| what | measured | bar |\n|---|---|---|\n"
    table += "".join(f"| {name} | {value} | {bar} |\n" for name, (value, bar) in rows.items())
    if args.write:
        head = "# Benchmarks\n\nMade by `scripts/bench.sh --write`: medians, on two cores, against the lab on the same computer.\n\n"
        (ROOT / "docs/benchmarks.md").write_text(head + table)


if __name__ == "__main__":
    main()
