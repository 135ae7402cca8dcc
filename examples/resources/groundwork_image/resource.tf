resource "groundwork_image" "debian" {
  node      = "pve1"
  storage   = "local"
  file_name = "debian-13-20260901.qcow2"
  url       = "https://cloud.debian.org/images/cloud/trixie/20260901-2222/debian-13-genericcloud-amd64-20260901-2222.qcow2"
  checksum  = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
}
