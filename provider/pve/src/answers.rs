//! What Proxmox VE says is answered, whatever it is.

use crate::api::qemu::agent::{Info, Process};
use crate::guests::Guests;
use crate::wording::class_of;
use crate::{
    AgentInterface, Content, Drive, Net, NodeName, PropertyString, Settings, Size, Status, Storage, TaskRow, Upid,
    Vmid, VolumeId,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A typed answer, as every call reads it: first as JSON, then as what it is to be.
fn typed<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str::<Value>(text).ok().and_then(|data| serde_json::from_value(data).ok())
}

#[test]
fn any_text_is_answered() {
    total::text("vmid", &["100"], |text| text.parse::<Vmid>().ok());
    total::text("node-name", &["pve1"], |text| text.parse::<NodeName>().ok());
    total::text("upid", &["UPID:pve1:000A1B2C:00D3E4F5:65A1B2C3:qmcreate:100:root@pam!x:"], |text| {
        text.parse::<Upid>().ok()
    });
    total::text("volume-id", &["local-lvm:vm-100-disk-0", "local:iso/a.iso"], |text| text.parse::<VolumeId>().ok());
    total::text("size", &["32G", "528K", "1.5T"], |text| text.parse::<Size>().ok());
    total::text("property-string", &["local:1/vm.qcow2,size=4G,ssd=1"], PropertyString::parse);
    total::text("drive", &["local-lvm:vm-100-disk-0,discard=on,size=4G", "none,media=cdrom"], Drive::parse);
    total::text("wording", &["unable to create VM 101: config file already exists"], class_of);
    total::text("card", &["virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=7,firewall=1"], Net::parse);
}

#[test]
fn any_rows_are_answered() {
    let guests = r#"[{"type":"qemu","vmid":"100","node":"pve1","name":"a","status":"running","template":0,"maxcpu":2,"maxmem":1,"tags":"a;b"},
        {"type":"node","node":"pve1","status":"online"},{"type":"storage"}]"#;
    total::text("guest-rows", &[guests], |text| {
        let guests = Guests::of(typed::<Vec<Value>>(text)?).ok()?;
        Some(guests.iter().map(|guest| (guest.cpus(), guest.tags().len())).collect::<Vec<_>>())
    });
    let settings = r#"[{"key":"cores","value":2,"pending":"4"},{"key":"net1","value":"virtio","delete":1},{"key":"digest","value":"a"}]"#;
    total::text("setting-rows", &[settings], |text| {
        let settings = typed::<Settings>(text)?;
        Some(
            settings
                .waiting()
                .map(|key| (settings.written(key).is_some(), settings.leaving(key).is_some()))
                .collect::<Vec<_>>(),
        )
    });
    let status = r#"{"status":"running","qmpstatus":"paused","lock":"backup","uptime":"7","ha":{"managed":1}}"#;
    total::text("vm-status", &[status], |text| {
        typed::<Status>(text).map(|status| (status.is_running(), status.is_paused()))
    });
    let storages = r#"[{"storage":"local","type":"dir","content":"iso,import","active":1,"enabled":"1","shared":0,"total":"9","avail":1.5}]"#;
    total::text("storage-rows", &[storages], |text| {
        typed::<Vec<Storage>>(text).map(|all| all.iter().map(|one| one.content().len()).sum::<usize>())
    });
    let content = r#"[{"volid":"local:iso/a.iso","content":"iso","format":"iso","size":"7","vmid":100}]"#;
    total::text("content-rows", &[content], |text| typed::<Vec<Content>>(text).map(|all| all.len()));
    let tasks =
        r#"[{"upid":"UPID:pve1:000A1B2C:00D3E4F5:65A1B2C3:qmcreate:100:root@pam!x:","status":"OK","starttime":"7"}]"#;
    total::text("task-rows", &[tasks], |text| typed::<Vec<TaskRow>>(text).map(|all| all.len()));
    let log = r#"[{"n":1,"t":"WARN: a"},{"n":2,"t":"TASK OK"},{"n":3}]"#;
    total::text("task-log", &[log], crate::api::tasks::read_log);
    let cards = r#"[{"name":"eth0","hardware-address":"bc:24:11:00:00:01","ip-addresses":[{"ip-address":"10.0.0.1","ip-address-type":"ipv4","prefix":24}]}]"#;
    total::text("guest-agent-cards", &[cards], |text| {
        typed::<Vec<AgentInterface>>(text).map(|all| all.iter().map(|card| card.addresses().count()).sum::<usize>())
    });
    let info = r#"{"version":"9.2.2","supported_commands":[{"name":"guest-exec","enabled":true,"success-response":true},{"name":"guest-get-devices","enabled":0}]}"#;
    total::text("guest-agent-info", &[info], |text| typed::<Info>(text).is_some());
    let process = r#"{"exited":1,"exitcode":3,"out-data":"out\u00c3\u00a4\n","err-data":"err\n","out-truncated":0}"#;
    total::text("guest-agent-process", &[process], |text| typed::<Process>(text).map(Process::end));
}
