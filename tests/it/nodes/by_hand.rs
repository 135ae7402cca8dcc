//! What somebody else has done to a living cluster: told at plan, with the cure, and put right where an apply may.

use super::Stage;
use crate::harness::wait_until;
use crate::quickstart::{self, nodes, variables};
use std::time::{Duration, Instant};

impl Stage<'_> {
    /// Cordoned, tainted, short of disk and memory, without its pod network, a control plane by its label.
    pub(super) fn what_nobody_asked_for_is_named(&self) {
        self.kubectl("cordon worker-1");
        self.kubectl("taint node worker-2 odd=1:NoSchedule");
        self.kubectl("label node worker-2 node-role.kubernetes.io/control-plane=");
        self.lab.must("worker-1", PRESSED);
        self.lab.must("worker-2", "mv /etc/cni/net.d/10-flannel.conflist /root");
        for (condition, node) in
            [("DiskPressure", "worker-1"), ("MemoryPressure", "worker-1"), ("Ready=false", "worker-2")]
        {
            self.kubectl(&format!("wait --for=condition={condition} node/{node} --timeout=2m"));
        }
        wait_until("the pressures are taints", || {
            let taints = self.kubectl("get node worker-1 -o jsonpath='{.spec.taints}'");
            ["disk-pressure", "memory-pressure"].iter().all(|taint| taints.contains(taint))
        });

        let plan = self.terraform.plan();
        plan.exits(0).says(&["Node worker-1 is cordoned", "worker-2 odd=1:NoSchedule"]);
        plan.says(&["Node worker-2 is no control plane of this configuration"]);
        plan.says(&["Node worker-1 is under pressure", "DiskPressure: ", "MemoryPressure: "]);
        plan.says(&["node.kubernetes.io/disk-pressure:NoSchedule", "node.kubernetes.io/memory-pressure:NoSchedule"]);
        plan.says(&["Node worker-2 is not ready", "NetworkPluginNotReady"]);
        assert!(!plan.flat().contains("has no pod network yet"), "the other nodes have one\n{}", plan.text);

        self.kubectl("uncordon worker-1");
        self.kubectl("taint node worker-2 odd-");
        self.kubectl("label node worker-2 node-role.kubernetes.io/control-plane-");
        self.lab.must("worker-1", RELIEVED);
        // containerd reads what is written there, and overlooks what is moved in.
        self.lab.must("worker-2", "cat /root/10-flannel.conflist >/etc/cni/net.d/10-flannel.conflist");
        for (condition, node) in
            [("DiskPressure=false", "worker-1"), ("MemoryPressure=false", "worker-1"), ("Ready", "worker-2")]
        {
            self.kubectl(&format!("wait --for=condition={condition} node/{node} --timeout=2m"));
        }
    }

    /// A kubelet that is newer than its API server is named, for nothing is made older here; one that is older is brought to the cluster's.
    pub(super) fn a_kubelet_of_another_version_is_named_or_mended(&self) {
        let live = quickstart::version(self.lab);
        let (minor, patch) = (minor_of(&live), patch_of(&live));
        // The last digit alone is another one: no version grows longer.
        let (newer, older) = (format!("1.{}.{patch}", minor + 1), format!("1.{minor}.{}", patch - 1));
        self.install_by_hand(&["kubelet"], &newer);
        let runs = "get node worker-1 -o jsonpath='{.status.nodeInfo.kubeletVersion}'";
        wait_until("the newer kubelet runs", || self.kubectl(runs) == format!("v{newer}"));
        let plan = self.terraform.plan();
        // dpkg takes the hold away with the version.
        plan.exits(2).says(&[
            "Node worker-1 is newer than its cluster",
            "join it again with",
            "packages: kubelet is not held",
        ]);
        plan.says(&[&format!("Its kubelet is {newer}, and the API server {live}")]);

        self.install_by_hand(&["kubeadm", "kubelet", "kubectl"], &older);
        wait_until("the older kubelet runs", || self.kubectl(runs) == format!("v{older}"));
        let plan = self.terraform.plan();
        plan.exits(2).says(&[&format!("worker-1: its kubelet is {older}, and the cluster is {live}"), "upgrade_steps"]);
        assert!(!plan.flat().contains("newer than its cluster"), "{}", plan.text);
        for package in ["kubeadm", "kubelet", "kubectl"] {
            let line = format!("\"packages: {package} is not held\"");
            assert_eq!(plan.text.lines().filter(|text| text.contains(&line)).count(), 1, "{line} in\n{}", plan.text);
        }
        self.terraform.apply();
        assert_eq!(self.kubectl(runs), format!("v{live}"));
        self.kubectl("wait --for=condition=Ready node/worker-1 --timeout=2m");
        self.terraform.has_no_changes();
    }

    /// Packages of worker-1 as they would be in another release, from those of this one: version and program say the other.
    fn install_by_hand(&self, packages: &[&str], version: &str) {
        let live = quickstart::version(self.lab);
        assert_eq!(version.len(), live.len(), "inside a program a text is replaced by one of its length");
        let script = format!(
            "set -e; export LC_ALL=C; cd $(mktemp -d)
             for name in {names}; do
                 apt-get download -qq \"$name={live}-*\"
                 dpkg-deb --raw-extract ${{name}}_*.deb $name
                 sed -i 's/^Version: .*/Version: {version}-1.1/' $name/DEBIAN/control
                 sed -i 's/v{live}/v{version}/g' $name/usr/bin/$name
                 dpkg-deb -Znone --build $name $name.deb >/dev/null
             done
             dpkg --install {files} >/dev/null 2>&1
             systemctl restart kubelet
             rm -r $PWD",
            names = packages.join(" "),
            files = packages.iter().map(|name| format!("{name}.deb")).collect::<Vec<_>>().join(" "),
        );
        self.lab.must("worker-1", &script);
    }

    /// Its pods would be waited for in vain: until the API server takes the node for lost, it even counts as ready.
    pub(super) fn a_worker_whose_kubelet_is_dead_may_go(&self) {
        self.lab.must("worker-2", "systemctl stop kubelet");
        self.terraform.variables(&variables(self.lab, 1));
        let began = Instant::now();
        self.terraform.apply().says(&["A note about", "worker-2", "its pods were not waited for"]);
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
        assert_eq!(nodes(self.lab), ["cp-1", "worker-1"]);
        self.terraform.has_no_changes();
    }
}

/// `1.36.3` is 36.
fn minor_of(version: &str) -> u32 {
    version.split('.').nth(1).and_then(|minor| minor.parse().ok()).expect("1.MINOR.PATCH")
}

/// `1.36.3` is 3.
fn patch_of(version: &str) -> u32 {
    version.split('.').nth(2).and_then(|patch| patch.parse().ok()).expect("1.MINOR.PATCH")
}

/// Thresholds that every machine is below, with an hour before a pod would be evicted.
const PRESSED: &str = "cp /var/lib/kubelet/config.yaml /root && cat >>/var/lib/kubelet/config.yaml <<'END'
evictionSoft: { nodefs.available: 99%, memory.available: 99% }
evictionSoftGracePeriod: { nodefs.available: 1h, memory.available: 1h }
END
systemctl restart kubelet";
const RELIEVED: &str = "cp /root/config.yaml /var/lib/kubelet/config.yaml && systemctl restart kubelet";
