//! Recovery on a real cluster: snapshots of etcd, now and by a timer; certificates that are renewed; and a new cluster that begins with a
//! snapshot of the one before.

mod bucket;

use crate::harness::run::run;
use crate::harness::{Backend, Lab, Terraform, long_ready};
use crate::quickstart::{self, KUBECTL, lab_is_empty, nodes, nodes_are_ready};
use bucket::Server;
use serde_json::{Value, json};

const SNAPSHOT: &str = "/var/backups/etcd/now.db";
const KEPT: &str = "/var/backups/kept.db";
const TIMER: &str = "groundwork-etcd-snapshot.timer";
const SERVICE: &str = "groundwork-etcd-snapshot.service";

#[test]
fn a_cluster_comes_back_from_its_snapshot() {
    if !long_ready() {
        return;
    }
    let lab = Lab::start("snapshots", Backend::Nspawn, &[]);
    let terraform = quickstart::prepare(&lab, 1);
    let stage = Stage { lab: &lab, terraform: &terraform };
    stage.a_snapshot_is_taken_and_one_that_is_gone_is_taken_anew();
    stage.a_timer_takes_others_and_keeps_some();
    stage.what_is_wrong_with_the_timer_is_told_and_mended();
    let server = stage.they_go_to_a_bucket_too();
    stage.certificates_are_renewed_and_what_runs_takes_them();
    stage.a_new_cluster_begins_with_a_snapshot(server.as_ref());
    terraform.destroy();
    lab_is_empty(&lab);
}

struct Stage<'a> {
    lab: &'a Lab,
    terraform: &'a Terraform,
}

impl Stage<'_> {
    #[track_caller]
    fn must(&self, line: &str) -> String {
        self.lab.must("cp-1", line)
    }

    /// Gives the cluster these settings besides the lab's, and a snapshot of it if there is a trigger.
    fn ask_for(&self, settings: &Value, trigger: Option<&str>) {
        let mut over: Value = serde_json::from_str(&self.lab.file("quickstart_override.tf.json")).expect("JSON");
        let cluster = over["resource"]["groundwork_cluster"]["main"].as_object_mut().expect("the cluster");
        cluster.extend(settings.as_object().expect("settings").clone());
        self.terraform.write("lab_override.tf.json", &over.to_string());
        quickstart::asks_for_snapshot(self.terraform, SNAPSHOT, trigger);
    }

    fn a_snapshot_is_taken_and_one_that_is_gone_is_taken_anew(&self) {
        self.ask_for(&json!({ "snapshots": daily() }), Some("first"));
        self.terraform.apply();
        self.terraform.has_no_changes();
        let told = self.terraform.resource("groundwork_etcd_snapshot.now");
        assert_eq!((&told["control_plane"], &told["id"]), (&json!("cp-1"), &json!(format!("cp-1:{SNAPSHOT}"))));
        let sum = self.must(&format!("head -c -32 {SNAPSHOT} | sha256sum"));
        assert_eq!(sum.split_whitespace().next(), told["sha256"].as_str());
        assert_eq!(self.must(&format!("stat -c '%a %U %s' {SNAPSHOT}")), format!("600 root {}", told["size_bytes"]));
        assert!(told["revision"].as_i64().is_some_and(|revision| revision > 100), "{told}");

        self.must(&format!("rm {SNAPSHOT}"));
        self.terraform.plan().exits(2).says(&["groundwork_etcd_snapshot.now will be created"]);
        self.terraform.apply();
        self.must(&format!("test -s {SNAPSHOT}"));
        // Somebody's own file is nobody else's to write over.
        self.must(&format!("rm {SNAPSHOT}; echo mine > {SNAPSHOT}"));
        self.terraform.fails(&["Cannot take the etcd snapshot", "something stands at", "path"]);
        assert_eq!(self.must(&format!("cat {SNAPSHOT}; rm {SNAPSHOT}")), "mine");
        // An agent that was killed has left a part.
        self.must("echo part > /var/backups/etcd/.now.db.part");
        self.terraform.apply();
        self.terraform.has_no_changes();
        assert_eq!(self.must("ls -A /var/backups/etcd"), "now.db");
    }

    fn a_timer_takes_others_and_keeps_some(&self) {
        assert_eq!(self.must(&format!("systemctl is-active {TIMER}; systemctl is-enabled {TIMER}")), "active\nenabled");
        for _ in 0..4 {
            self.must(&format!("systemctl start {SERVICE}; sleep 1"));
        }
        let files = self.must("stat -c '%a' /srv/etcd/*");
        assert_eq!(files, "600\n600\n600", "three of four stay");
        self.terraform.has_no_changes();
    }

    fn what_is_wrong_with_the_timer_is_told_and_mended(&self) {
        self.must(&format!("systemctl disable --now {TIMER}"));
        self.terraform.plan().exits(2).says(&["cp-1: its timer for snapshots of etcd was stopped or changed"]);
        self.terraform.apply();
        self.must("mv /srv/etcd /srv/aside && touch /srv/etcd");
        assert_ne!(self.lab.exec("cp-1", &format!("systemctl start {SERVICE}")).code, 0);
        self.terraform.plan().exits(2).says(&["cp-1: its last snapshot of etcd failed", "/srv/etcd"]);
        self.terraform.fails(&["No snapshot of etcd can be taken", "/srv/etcd"]);
        self.must("rm /srv/etcd && mv /srv/aside /srv/etcd");
        self.terraform.apply();
        self.terraform.has_no_changes();
        self.ask_for(&json!({ "snapshots": { "schedule": "every now and then" } }), Some("first"));
        self.terraform.fails(&["calendar", "schedule"]);
        self.ask_for(&json!({}), Some("first"));
        self.terraform.apply();
        self.terraform.has_no_changes();
        self.must(&format!("test ! -e /etc/systemd/system/{TIMER} && test ! -e /etc/systemd/system/{SERVICE}"));
        assert_eq!(self.must("ls /srv/etcd | wc -l"), "3", "what was taken stays");
    }

    fn they_go_to_a_bucket_too(&self) -> Option<Server> {
        let mut server = Server::start(self.lab)?;
        let ask_for = |secret: &str, version: u8| {
            self.ask_for(&json!({ "snapshots": daily_into(&server, (secret, version)) }), Some("first"));
        };
        ask_for("another-secret", 1);
        self.terraform.fails(&[
            "No snapshot of etcd can be taken",
            "did not get into the bucket",
            "SignatureDoesNotMatch",
        ]);
        ask_for(bucket::SECRET, 2);
        self.apply_traced();
        self.terraform.has_no_changes();
        let here = || self.must("cd /srv/etcd && ls etcd-*.db | tail -n 2");
        assert_eq!(server.objects("prod/cp-1").join("\n"), here());
        let newest = here().lines().last().expect("a snapshot").to_owned();
        let sum = self.must(&format!("sha256sum /srv/etcd/{newest}"));
        assert_eq!(sum.split_whitespace().next(), Some(server.sum(&format!("prod/cp-1/{newest}")).as_str()));
        // Their names are of the second in which they were taken.
        self.must(&format!("sleep 1; systemctl start {SERVICE}"));
        assert_eq!(server.objects("prod/cp-1").join("\n"), here(), "the oldest goes");

        server.stop();
        assert_ne!(self.lab.exec("cp-1", &format!("sleep 1; systemctl start {SERVICE}")).code, 0);
        self.terraform.plan().exits(2).says(&["cp-1: its last snapshot of etcd failed", "did not get into the bucket"]);
        server.begin();
        self.terraform.apply();
        self.terraform.has_no_changes();
        assert_eq!(server.objects("prod/cp-1").join("\n"), here(), "what did not get there goes with the next");
        self.nobody_tells_the_key();
        assert_eq!(self.must("cat /etc/systemd/system/groundwork-etcd-snapshot.*").matches(bucket::SECRET).count(), 0);
        self.ask_for(&json!({}), Some("first"));
        self.terraform.apply();
        self.must(&format!("! grep -r {} /var/lib/groundwork", bucket::SECRET));
        Some(server)
    }

    fn apply_traced(&self) {
        let mut apply = self.terraform.command(&["apply", "-auto-approve", "-input=false", "-no-color"]);
        run(apply.env("TF_LOG", "TRACE").env("TF_LOG_PATH", self.terraform.path("trace.log"))).exits(0);
    }

    /// Neither what Terraform wrote nor the agent's journal has the secret half of the bucket's key.
    fn nobody_tells_the_key(&self) {
        for name in ["trace.log", "terraform.tfstate"] {
            let text = String::from_utf8_lossy(&std::fs::read(self.terraform.path(name)).expect("a file")).into_owned();
            assert!(!text.contains(bucket::SECRET), "the key stands in {name}");
        }
        self.must(&format!("! journalctl --no-pager | grep -F {}", bucket::SECRET));
        // Whoever may look at the machine is told these.
        self.must(&format!("! grep -rF {} /var/lib/groundwork/records", bucket::SECRET));
    }

    fn certificates_are_renewed_and_what_runs_takes_them(&self) {
        let serials = || {
            let each = "for f in /etc/kubernetes/pki/apiserver.crt /etc/kubernetes/pki/etcd/server.crt; do \
                openssl x509 -noout -serial -in $f; done; sha256sum /etc/kubernetes/scheduler.conf";
            self.must(each)
        };
        let pods = || self.must("pgrep -x kube-scheduler; pgrep -x etcd; pgrep -x kube-apiserver");
        let (before, running) = (serials(), pods());
        // kubeadm's count for 365 days.
        self.ask_for(&json!({ "certificate_renewal_days": 360 }), Some("first"));
        self.terraform.apply();
        self.terraform.has_no_changes();
        assert_eq!((serials(), pods()), (before.clone(), running.clone()), "none ends soon enough");

        self.a_certificate_of_three_hundred_days();
        self.terraform.plan().exits(2).says(&["cp-1: certificates count until", "only: apiserver"]);
        self.terraform.apply();
        self.terraform.has_no_changes();
        assert_ne!(serials(), before);
        let now = pods();
        assert!(running.lines().all(|pid| !now.lines().any(|other| other == pid)), "{running} and {now}");
        nodes_are_ready(self.lab);
    }

    /// As if the API server's were older.
    fn a_certificate_of_three_hundred_days(&self) {
        self.must(
            "cd /etc/kubernetes/pki && openssl req -new -key apiserver.key -subj /CN=kube-apiserver -out /tmp/a.csr && \
             openssl x509 -in apiserver.crt -noout -ext subjectAltName | tail -n 1 | sed 's/IP Address/IP/g; s/^ */subjectAltName=/' > /tmp/a.ext && \
             echo extendedKeyUsage=serverAuth >> /tmp/a.ext && \
             openssl x509 -req -in /tmp/a.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 300 -extfile /tmp/a.ext -out apiserver.crt && \
             rm -f ca.srl /tmp/a.csr /tmp/a.ext",
        );
    }

    fn a_new_cluster_begins_with_a_snapshot(&self, server: Option<&Server>) {
        self.must(&format!("{KUBECTL} create configmap before --from-literal=colour=blue"));
        let settings =
            server.map_or(json!({}), |server| json!({ "snapshots": daily_into(server, (bucket::SECRET, 3)) }));
        self.ask_for(&settings, Some("second"));
        self.terraform.plan().exits(2).says(&["groundwork_etcd_snapshot.now must be replaced"]);
        self.terraform.apply();
        let away = server.map(|server| {
            let newest = server.objects("prod/cp-1").pop().expect("one was taken, because the bucket is new");
            (server, format!("prod/cp-1/{newest}"))
        });
        self.must(&format!("cp {SNAPSHOT} {KEPT}; {KUBECTL} delete configmap before"));
        let old = self.terraform.resource("groundwork_cluster.main")["ca_fingerprint"].clone();
        let destroy = ["destroy", "-auto-approve", "-input=false", "-no-color", "-target=groundwork_cluster.main"];
        self.terraform.run(&destroy).exits(0);
        self.must(&format!("test ! -e {SNAPSHOT} && test -s {KEPT} && test ! -e /var/lib/etcd/member"));

        self.ask_for(&json!({ "restore_from": { "path": "/var/backups/none.db" } }), None);
        self.terraform.plan().exits(2).says(&["Cluster quickstart begins with a snapshot"]);
        self.terraform.fails(&["No snapshot of etcd stands at /var/backups/none.db"]);
        match away {
            Some((server, key)) => self.it_comes_from_the_bucket(server, &key),
            None => {
                self.ask_for(&json!({ "restore_from": { "path": KEPT } }), None);
                self.terraform.apply();
            }
        }
        self.terraform.has_no_changes();
        assert_eq!(self.must(&format!("{KUBECTL} get configmap before -o jsonpath={{.data.colour}}")), "blue");
        assert_ne!(self.terraform.resource("groundwork_cluster.main")["ca_fingerprint"], old);
        assert_eq!(nodes(self.lab), ["cp-1", "worker-1"]);
        nodes_are_ready(self.lab);
        // What ran there speaks to the new cluster, and what is new begins.
        self.must(&format!("{KUBECTL} -n kube-system rollout status deployment/coredns --timeout=180s"));
        let image = "registry.k8s.io/e2e-test-images/agnhost:2.53";
        self.must(&format!("{KUBECTL} run after --image={image} --restart=Never -- pause"));
        self.must(&format!("{KUBECTL} wait --for=condition=Ready pod/after --timeout=120s"));
    }
}

impl Stage<'_> {
    /// What cannot be fetched, or is not what is asked for, is told before anything is begun, and leaves nothing on the machine.
    fn it_comes_from_the_bucket(&self, server: &Server, key: &str) {
        let ask_for = |key: &str, secret: &str, sha256: &str| {
            let s3 = json!({
                "endpoint": server.endpoint(), "bucket": bucket::BUCKET, "key": key, "access_key_id": bucket::ID,
                "secret_access_key_wo": secret, "ca_certificate": server.ca_certificate(), "sha256": sha256,
            });
            self.ask_for(&json!({ "restore_from": { "s3": s3 } }), None);
        };
        let (sum, another) = (server.sum(key), "0".repeat(64));
        for (asked, secret, sha256, words) in [
            ("prod/cp-1/none.db", bucket::SECRET, &sum, "NoSuchKey"),
            (key, "another-secret", &sum, "SignatureDoesNotMatch"),
            (key, bucket::SECRET, &another, "`sha256` asks for 000000"),
        ] {
            ask_for(asked, secret, sha256);
            self.terraform.fails(&[
                "Cannot create cluster quickstart",
                asked,
                bucket::BUCKET,
                &server.endpoint(),
                words,
            ]);
            self.must("test ! -e /var/lib/groundwork/restore.db && test ! -e /etc/kubernetes/admin.conf");
        }
        ask_for(key, bucket::SECRET, &sum);
        self.terraform.plan().exits(2).says(&["begins with a snapshot", key, bucket::BUCKET]);
        self.apply_traced();
        self.nobody_tells_the_key();
        self.must(&format!("! grep -r {} /var/lib/groundwork /etc", bucket::SECRET));
        self.must("test ! -e /var/lib/groundwork/restore.db");
    }
}

/// Into the bucket too, two of each control plane.
fn daily_into(server: &Server, (secret, version): (&str, u8)) -> Value {
    let mut snapshots = daily();
    snapshots["s3"] = json!({
        "endpoint": server.endpoint(), "bucket": bucket::BUCKET, "prefix": "prod", "access_key_id": bucket::ID, "keep": 2,
        "ca_certificate": server.ca_certificate(), "secret_access_key_wo": secret, "secret_access_key_wo_version": version,
    });
    snapshots
}

fn daily() -> Value {
    json!({ "schedule": "*-*-* 03:00:00", "keep": 3, "directory": "/srv/etcd" })
}
