//! What Proxmox VE says is answered, whatever it is.

use crate::{Drive, Net, NodeName, PropertyString, Size, Upid, Vmid, VolumeId};

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
    total::text("card", &["virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=7,firewall=1"], Net::parse);
}
