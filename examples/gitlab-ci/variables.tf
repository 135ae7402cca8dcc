variable "node" {
  type        = string
  description = "Proxmox VE node."
}

variable "image_url" {
  type        = string
  description = "Cloud image, downloaded by the node."
}

variable "image_checksum" {
  type        = string
  description = "Its checksum, `sha256:…`."
}

variable "address" {
  type        = string
  description = "Address of the machine with the length of its prefix, `192.0.2.11/24`."
}

variable "gateway" {
  type        = string
  description = "Its gateway."
}
