resource "groundwork_machine" "web" {
  endpoint = {
    address     = "192.0.2.20:7443"
    fingerprint = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
  }
  hostname = "web"
  swap     = "off"
  sysctls  = { "net.core.somaxconn" = "4096" }
  package "nginx" {}
  file "/etc/motd" { content = "This machine is managed by Groundwork.\n" }
  service "nginx.service" {
    enabled = true
    running = true
  }
}

# A Kubernetes node with a newer containerd than its distribution has.
resource "groundwork_machine" "node" {
  endpoint = {
    address     = "192.0.2.21:7443"
    fingerprint = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
  }
  hostname = "worker-1"
  kubernetes { version = "1.36.2" }
  container_runtime {
    package = "containerd.io"
    version = "2.2.*"
  }
  repository "docker" {
    url        = "https://download.docker.com/linux/debian"
    suites     = ["bookworm"]
    components = ["stable"]
    key_url    = "https://download.docker.com/linux/debian/gpg"
  }
}
