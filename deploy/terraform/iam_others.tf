resource "google_bigquery_dataset_iam_member" "editors" {
  for_each = var.tables == "bigquery" ? { worker = local.worker, launcher = local.launcher } : {}

  dataset_id = google_bigquery_dataset.tables[0].dataset_id
  role       = "roles/bigquery.dataEditor"
  member     = each.value
}

resource "google_bigquery_dataset_iam_member" "checker" {
  count = var.tables == "bigquery" ? 1 : 0

  dataset_id = google_bigquery_dataset.tables[0].dataset_id
  role       = "roles/bigquery.dataViewer"
  member     = local.checker
}

locals {
  secret_readers = { worker = local.worker, launcher = local.launcher }
  secret_grants = {
    for pair in setproduct(var.secrets, keys(local.secret_readers)) :
    "${pair[0]}/${pair[1]}" => { secret = pair[0], member = local.secret_readers[pair[1]] }
  }
}

resource "google_secret_manager_secret_iam_member" "readers" {
  for_each = local.secret_grants

  secret_id = google_secret_manager_secret.arize[each.value.secret].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = each.value.member
}

resource "google_artifact_registry_repository_iam_member" "pullers" {
  for_each = { worker = local.worker, launcher = local.launcher }

  repository = google_artifact_registry_repository.images.name
  location   = var.region
  role       = "roles/artifactregistry.reader"
  member     = each.value
}

# Who launches a job gives it the worker's identity.
resource "google_service_account_iam_member" "launcher_as_worker" {
  service_account_id = google_service_account.worker.name
  role               = "roles/iam.serviceAccountUser"
  member             = local.launcher
}

resource "google_service_account_iam_member" "launchers" {
  for_each = var.launchers

  service_account_id = google_service_account.launcher.name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = each.key
}

resource "google_cloud_run_v2_job_iam_member" "scheduler" {
  count = var.image == "" ? 0 : 1

  name     = google_cloud_run_v2_job.check[0].name
  location = var.region
  role     = "roles/run.invoker"
  member   = local.scheduler
}
