# The services that the project uses. Destroying them would break what else runs in the project.
locals {
  services = concat(
    [
      "artifactregistry.googleapis.com",
      "cloudscheduler.googleapis.com",
      "compute.googleapis.com",
      "dataflow.googleapis.com",
      "logging.googleapis.com",
      "monitoring.googleapis.com",
      "pubsub.googleapis.com",
      "run.googleapis.com",
      "secretmanager.googleapis.com",
      "storage.googleapis.com",
    ],
    var.tables == "bigquery" ? ["bigquery.googleapis.com"] : ["biglake.googleapis.com"],
  )
}

resource "google_project_service" "used" {
  for_each = toset(local.services)

  service            = each.key
  disable_on_destroy = false
}
