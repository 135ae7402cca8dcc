terraform import groundwork_image.debian 'pve1/local:import/debian-13-20260901.qcow2'
