resource "groundwork_machine" "web" {
  endpoint = {
    address     = "192.0.2.20:7443"
    fingerprint = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
  }
  hostname = "web"
  swap     = "off"
  sysctls  = { "net.core.somaxconn" = "4096" }
  packages = { nginx = {} }
  files = {
    "/etc/motd" = { content = "This machine is managed by Groundwork.\n" }
  }
  services = {
    "nginx.service" = { enabled = true, running = true }
  }
}
