resource "groundwork_pool" "dev" {
  poolid  = "dev"
  comment = "What developers may restart"
}

resource "groundwork_pool" "web" {
  poolid = "${groundwork_pool.dev.poolid}/web"
}
