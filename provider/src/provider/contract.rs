//! The contract of every resource and data source, one line per attribute. `UPDATE_EXPECT=1` rewrites it: read the difference
//! as a user would.

#![expect(clippy::too_many_lines, reason = "a contract is as long as it is")]

use expect_test::{Expect, expect};

use super::*;

#[track_caller]
fn resource(name: &str, contract: &Expect) {
    let found = Groundwork.resources().into_iter().find(|resource| resource.name() == name).unwrap();
    contract.assert_eq(&tf::docs::outline(&found.block()));
}

#[track_caller]
fn data_source(name: &str, contract: &Expect) {
    let found = Groundwork.data_sources().into_iter().find(|source| source.name() == name).unwrap();
    contract.assert_eq(&tf::docs::outline(&found.block()));
}

#[test]
fn everything_has_a_contract() {
    type Test = fn();
    let resources: [(&str, Test); 4] = [
        ("cluster", groundwork_cluster),
        ("image", groundwork_image),
        ("machine", groundwork_machine),
        ("vm", groundwork_vm),
    ];
    let names: Vec<_> = Groundwork.resources().iter().map(AnyResource::name).collect();
    assert_eq!(names, resources.map(|(name, _)| name));
    let data_sources: [(&str, Test); 4] = [
        ("nodes", data_groundwork_nodes),
        ("storages", data_groundwork_storages),
        ("version", data_groundwork_version),
        ("vms", data_groundwork_vms),
    ];
    let names: Vec<_> = Groundwork.data_sources().iter().map(AnyDataSource::name).collect();
    assert_eq!(names, data_sources.map(|(name, _)| name));
}

#[test]
fn the_provider_block() {
    expect![[r#"
        agent: Attributes (optional)
          ca_cert_pem: String (optional)
          ca_key_pem: String (optional, sensitive)
          pki_dir: String (optional)
        proxmox: Attributes (optional)
          api_token: String (optional, sensitive)
          ca_cert_pem: String (optional)
          endpoints: List of String (optional)
          insecure: Boolean (optional)
          otp: String (optional, sensitive)
          parallelism: Number (optional)
          password: String (optional, sensitive)
          tls_fingerprint: String (optional)
          username: String (optional)
    "#]]
    .assert_eq(&tf::docs::outline(&tf::Block::of::<Block>()));
}

#[test]
fn groundwork_cluster() {
    resource(
        "cluster",
        &expect![[r#"
            api_endpoint: String (computed, keep)
            ca_certificate: String (computed, keep)
            ca_fingerprint: String (computed, keep)
            certificate_names: List of String (optional, replaces)
            config: Attributes (optional)
              cluster: String (optional)
              init: String (optional)
              join: String (optional)
              kube_proxy: String (optional)
              kubelet: String (optional)
            control_planes: Attributes Map (required)
              endpoint: Attributes (required)
                address: String (required)
                fingerprint: String (required)
              labels: Map of String (optional)
              taints: List of String (optional)
            distribution: String (optional, default "kubeadm", replaces)
            drain_timeout: String (optional)
            drift: List of String (computed)
            endpoint: String (optional, replaces)
            id: String (computed, keep)
            ignore_preflight_errors: List of String (optional)
            kubeconfig: String (computed, keep)
            name: String (required, replaces)
            pod_subnet: String (optional, replaces)
            service_subnet: String (optional, replaces)
            timeouts: Attributes (optional)
              create: String (optional)
              delete: String (optional)
              update: String (optional)
            version: String (required)
            workers: Attributes Map (optional)
              endpoint: Attributes (required)
                address: String (required)
                fingerprint: String (required)
              labels: Map of String (optional)
              taints: List of String (optional)
        "#]],
    );
}

#[test]
fn groundwork_image() {
    resource(
        "image",
        &expect![[r#"
            checksum: String (optional, computed, replaces, first boot)
            content: String (optional, default "import", replaces)
            drift: List of String (computed, keep)
            file_name: String (required, replaces)
            id: String (computed, keep)
            node: String (required, replaces)
            size: Number (computed, keep)
            source_file: String (optional, computed, replaces, first boot)
            storage: String (required, replaces)
            timeouts: Attributes (optional)
              create: String (optional)
              update: String (optional)
            url: String (optional, computed, replaces, first boot)
            verify_certificates: Boolean (optional, default true)
            volume_id: String (computed, keep)
        "#]],
    );
}

#[test]
fn groundwork_machine() {
    resource(
        "machine",
        &expect![[r#"
            commands: Attributes Map (optional)
              argv: List of String (required)
              creates: String (optional)
              timeout: String (optional)
              unless: List of String (optional)
            container_runtime: Attributes (optional)
              package: String (optional)
              registries: Attributes Map (optional)
                ca_pem: String (optional)
                mirrors: List of String (optional)
                override_path: Boolean (optional)
                skip_verify: Boolean (optional)
              sandbox_image: String (optional)
              version: String (optional)
            drift: List of String (computed)
            endpoint: Attributes (required)
              address: String (required)
              fingerprint: String (required)
            facts: Map of String (computed, keep)
            files: Attributes Map (optional)
              content: String (optional)
              content_base64: String (optional)
              group: String (optional)
              mode: String (optional)
              owner: String (optional)
            filesystems: Attributes Map (optional)
              kind: String (required)
              label: String (optional)
              uuid: String (optional)
            hostname: String (optional)
            hosts: Attributes Map (optional)
              names: List of String (required)
            id: String (computed, keep)
            kernel_modules: List of String (optional)
            kubernetes: Attributes (optional)
              repository: Attributes (optional)
                key_pem: String (optional)
                url: String (optional)
              version: String (required)
            mounts: Attributes Map (optional)
              kind: String (optional)
              options: List of String (optional)
              source: String (required)
            packages: Attributes Map (optional)
              absent: Boolean (optional)
              hold: Boolean (optional)
              version: String (optional)
            repositories: Attributes Map (optional)
              components: List of String (optional)
              key_pem: String (optional)
              key_url: String (optional)
              suites: List of String (optional)
              trusted: Boolean (optional)
              url: String (required)
            services: Attributes Map (optional)
              enabled: Boolean (optional)
              masked: Boolean (optional)
              restart_on: List of String (optional)
              running: Boolean (optional)
            skipped: List of String (computed, keep)
            swap: String (optional)
            sysctls: Map of String (optional)
            time_sync: Boolean (optional)
            timeouts: Attributes (optional)
              create: String (optional)
              delete: String (optional)
              update: String (optional)
        "#]],
    );
}

#[test]
fn groundwork_vm() {
    resource(
        "vm",
        &expect![[r#"
            addresses: List of String (computed, keep)
            agent: Attributes (optional, computed, keep, first boot)
              address: String (optional)
              port: Number (optional)
            clone: Attributes (optional, computed, keep, first boot)
              full: Boolean (optional)
              name: String (optional)
              storage: String (optional)
              tag: String (optional)
              vmid: Number (optional)
            cloud_init: Attributes (optional, computed, keep, first boot)
              network: Attributes Map (optional)
                address: String (optional)
                address6: String (optional)
                dns: List of String (optional)
                gateway: String (optional)
                gateway6: String (optional)
                search: List of String (optional)
              password: String (optional, sensitive, write-only)
              slot: String (optional)
              ssh_keys: List of String (optional)
              storage: String (optional)
              user: String (optional)
              user_data: String (optional)
            cores: Number (optional, computed, keep)
            cpu_type: String (optional, computed, keep)
            current_node: String (computed, keep)
            description: String (optional, computed, keep)
            disks: Attributes Map (optional, computed, keep)
              backup: Boolean (optional, computed, keep)
              cache: String (optional, computed, keep)
              discard: Boolean (optional, computed, keep)
              format: String (optional, computed, keep, first boot)
              iothread: Boolean (optional, computed, keep)
              serial: String (optional, computed, keep)
              size_gib: Number (optional, computed, keep)
              ssd: Boolean (optional, computed, keep)
              storage: String (required)
              volume: String (computed, keep)
            effects: List of String (computed, keep)
            efi_storage: String (optional, computed, keep, first boot)
            endpoint: Attributes (computed, keep)
              address: String (computed, keep)
              fingerprint: String (computed, keep)
            firmware: String (optional, computed, replaces)
            guest_agent: Boolean (optional, computed, keep)
            id: String (computed, keep)
            image: String (optional, computed, keep, first boot)
            memory_mib: Number (optional, computed, keep)
            name: String (required)
            networks: Attributes Map (optional, computed, keep)
              bridge: String (required)
              firewall: Boolean (optional, computed, keep)
              mac: String (optional, computed, keep)
              model: String (optional, computed, keep)
              mtu: Number (optional, computed, keep)
              vlan: Number (optional, computed, keep)
            node: String (required)
            on_boot: Boolean (optional, computed, keep)
            pool: String (optional, computed, keep, first boot)
            reboot: Boolean (optional, default true)
            serial_console: Boolean (optional, computed, keep)
            sockets: Number (optional, computed, keep)
            started: Boolean (optional, default true)
            tags: Set of String (optional, computed, keep)
            timeouts: Attributes (optional)
              create: String (optional)
              delete: String (optional)
              update: String (optional)
            uuid: String (computed, keep)
            vmid: Number (optional, computed, replaces)
            waiting: List of String (computed, keep)
        "#]],
    );
}

#[test]
fn data_groundwork_nodes() {
    data_source(
        "nodes",
        &expect![[r#"
        nodes: Attributes List (computed)
          cpus: Number (computed)
          memory_mib: Number (computed)
          memory_used_mib: Number (computed)
          name: String (computed)
          online: Boolean (computed)
          tls_fingerprint: String (computed)
    "#]],
    );
}

#[test]
fn data_groundwork_storages() {
    data_source(
        "storages",
        &expect![[r#"
        content: String (optional)
        node: String (required)
        storages: Attributes List (computed)
          active: Boolean (computed)
          content: Set of String (computed)
          free_gib: Number (computed)
          name: String (computed)
          shared: Boolean (computed)
          total_gib: Number (computed)
          type: String (computed)
    "#]],
    );
}

#[test]
fn data_groundwork_version() {
    data_source(
        "version",
        &expect![[r#"
        release: String (computed)
        repository_id: String (computed)
        version: String (computed)
    "#]],
    );
}

#[test]
fn data_groundwork_vms() {
    data_source(
        "vms",
        &expect![[r#"
        name: String (optional)
        node: String (optional)
        tag: String (optional)
        template: Boolean (optional)
        vms: Attributes List (computed)
          cpus: Number (computed)
          memory_mib: Number (computed)
          name: String (computed)
          node: String (computed)
          pool: String (computed)
          status: String (computed)
          tags: Set of String (computed)
          template: Boolean (computed)
          vmid: Number (computed)
    "#]],
    );
}
