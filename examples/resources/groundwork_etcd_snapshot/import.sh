terraform import groundwork_etcd_snapshot.before_upgrade '192.0.2.11:7443,sha256:0000000000000000000000000000000000000000000000000000000000000000,/var/backups/etcd/before-upgrade.db'
