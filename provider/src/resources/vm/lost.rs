//! What goes with a machine: every volume and address of it. Pure.

use pve::{Drive, Net, Settings};

use super::{cards, disks};

/// What goes with a machine when it is destroyed or replaced.
pub(super) fn with(now: &Settings) -> Vec<String> {
    let size = |drive: &Drive| drive.size().map(|size| format!(", {} GiB", size.gib_up())).unwrap_or_default();
    let drive = |slot: &str| now.written(slot).or_else(|| now.leaving(slot)).map(Drive::parse);
    let mut keys: Vec<&str> = now.keys().chain(now.waiting().filter(|key| now.leaving(key).is_some())).collect();
    keys.sort_by_key(|key| (key.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned(), disks::number(key)));
    let disk = |slot: &&str| {
        let drive = drive(slot).filter(|drive| !drive.is_cdrom())?;
        let what = match *slot {
            "efidisk0" => "the variables of its firmware".to_owned(),
            "tpmstate0" => "what its TPM keeps".to_owned(),
            slot if disks::is_slot(slot) || slot.starts_with("unused") => format!("all its data{}", size(&drive)),
            _ => return None,
        };
        Some(format!("{slot}: {what} ({})", drive.volume()))
    };
    let card = |slot: &&str| {
        let mac = now.written(slot).and_then(|text| Some(Net::parse(text).mac()?.to_owned()))?;
        Some(format!("{slot}: the hardware address {mac}, unless `mac` gives it, and what DHCP gave to it"))
    };
    let cards = keys.iter().filter(|key| cards::is_slot(key)).filter_map(card);
    keys.iter().filter_map(disk).chain(cards).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_volume_and_address_is_named() {
        let rows = serde_json::json!([
            {"key": "scsi10", "value": "data:v10,size=1536M"}, {"key": "scsi2", "value": "data:v2,size=4G", "delete": 1},
            {"key": "ide2", "value": "local:iso/x.iso,media=cdrom"}, {"key": "efidisk0", "value": "data:efi,size=4M"},
            {"key": "unused0", "value": "data:old"}, {"key": "net0", "value": "virtio=BC:24:11:00:00:01,bridge=vmbr0"},
            {"key": "scsihw", "value": "virtio-scsi-single"}]);
        let lost = with(&serde_json::from_value(rows).unwrap());
        assert_eq!(
            lost,
            [
                "efidisk0: the variables of its firmware (data:efi)",
                "scsi2: all its data, 4 GiB (data:v2)",
                "scsi10: all its data, 2 GiB (data:v10)",
                "unused0: all its data (data:old)",
                "net0: the hardware address BC:24:11:00:00:01, unless `mac` gives it, and what DHCP gave to it",
            ]
        );
    }
}
