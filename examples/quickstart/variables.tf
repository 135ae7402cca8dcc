variable "node" {
  description = "Proxmox VE node the machines run on."
  type        = string
  default     = "pve1"
}

variable "image_storage" {
  description = "Storage with the content type `import`, where the cloud image is kept."
  type        = string
  default     = "local"
}

variable "disk_storage" {
  description = "Storage of the machines' disks."
  type        = string
  default     = "local-lvm"
}

variable "bridge" {
  description = "Bridge of the machines' network."
  type        = string
  default     = "vmbr0"
}

variable "image_url" {
  description = "Cloud image that the Proxmox VE node downloads (Debian or Ubuntu, qcow2)."
  type        = string
}

variable "image_checksum" {
  description = "Checksum of the image, `sha256:<hex>` or `sha512:<hex>`."
  type        = string
}

variable "addresses" {
  description = "Free static addresses: one control plane and any number of workers."
  type = object({
    control_plane = string
    workers       = list(string)
  })
}

variable "prefix_length" {
  description = "Prefix length of the machines' network."
  type        = number
  default     = 24
}

variable "gateway" {
  description = "Default gateway of the machines."
  type        = string
}

variable "dns" {
  description = "Name servers of the machines."
  type        = list(string)
  default     = []
}

variable "ssh_keys" {
  description = "Public SSH keys of the user `admin`; Groundwork itself does not use SSH."
  type        = list(string)
  default     = []
}

variable "cores" {
  description = "CPU cores per machine (kubeadm wants two on a control plane)."
  type        = number
  default     = 2
}

variable "cpu_type" {
  description = "CPU type of the machines."
  type        = string
  default     = "x86-64-v2-AES"
}

variable "memory_mib" {
  description = "Memory per machine in MiB."
  type        = number
  default     = 2048
}

variable "disk_gib" {
  description = "Size of the machines' disks in GiB."
  type        = number
  default     = 20
}

variable "sysctls" {
  description = "Kernel settings beside those that Kubernetes needs."
  type        = map(string)
  default     = { "fs.inotify.max_user_instances" = "8192" }
}

variable "kubernetes_version" {
  description = "Kubernetes version, all three numbers."
  type        = string
  default     = "1.36.2"
}

variable "kubernetes_repository" {
  description = "Package repository of Kubernetes; null takes the project's own one for the version."
  type = object({
    url     = string
    key_pem = optional(string)
  })
  default = null
}

variable "pki_dir" {
  description = "Folder of the agents' CA, made by `terraform-provider-groundwork pki init`."
  type        = string
  default     = "./pki"
}
