# Roles that exist on a project only. Everything else is granted on one resource.
resource "google_project_iam_member" "worker_dataflow" {
  project = var.project
  role    = "roles/dataflow.worker"
  member  = local.worker
}

resource "google_project_iam_member" "launcher_dataflow" {
  project = var.project
  role    = "roles/dataflow.developer"
  member  = local.launcher
}

# BigQuery: jobs belong to a project, not to a dataset.
resource "google_project_iam_member" "bigquery_jobs" {
  for_each = var.tables == "bigquery" ? { worker = local.worker, launcher = local.launcher, checker = local.checker } : {}

  project = var.project
  role    = "roles/bigquery.jobUser"
  member  = each.value
}

resource "google_project_iam_member" "bigquery_reads" {
  for_each = var.tables == "bigquery" ? { worker = local.worker, launcher = local.launcher, checker = local.checker } : {}

  project = var.project
  role    = "roles/bigquery.readSessionUser"
  member  = each.value
}

# BigLake: calls of the catalog are counted against a project, which they name in a header.
resource "google_project_iam_member" "biglake_editors" {
  for_each = var.tables == "iceberg" ? { worker = local.worker, launcher = local.launcher } : {}

  project = var.project
  role    = "roles/biglake.editor"
  member  = each.value
}

resource "google_project_iam_member" "biglake_viewer" {
  count = var.tables == "iceberg" ? 1 : 0

  project = var.project
  role    = "roles/biglake.viewer"
  member  = local.checker
}

resource "google_project_iam_member" "biglake_callers" {
  for_each = var.tables == "iceberg" ? { worker = local.worker, launcher = local.launcher, checker = local.checker } : {}

  project = var.project
  role    = "roles/serviceusage.serviceUsageConsumer"
  member  = each.value
}
