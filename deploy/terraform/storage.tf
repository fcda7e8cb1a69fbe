# Three buckets, as they are kept for different times and read by different accounts.
resource "google_storage_bucket" "temp" {
  name     = "${var.project}-${var.name}-temp"
  location = var.region

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true

  # Temporary files are gone once deleted, or they would be paid for a week longer.
  soft_delete_policy {
    retention_duration_seconds = 0
  }

  # What is staged in dataflow/ stays: a worker that starts after months loads its job's packages.
  lifecycle_rule {
    condition {
      age            = var.temp_keep_days
      matches_prefix = ["temp/"]
    }
    action {
      type = "Delete"
    }
  }

  depends_on = [google_project_service.used]
}

resource "google_storage_bucket" "archive" {
  name     = "${var.project}-${var.name}-archive"
  location = var.region

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = !var.deletion_protection

  retention_policy {
    retention_period = var.archive_retention_days * 86400
  }

  lifecycle_rule {
    condition {
      age = var.archive_keep_days
    }
    action {
      type = "Delete"
    }
  }

  depends_on = [google_project_service.used]
}

# The home: outbox, dead letters, parked messages; files on their way to BigQuery, or Iceberg tables.
# No lifecycle: an old file here may be one that a table names, or rows that wait for Arize.
resource "google_storage_bucket" "home" {
  name     = "${var.project}-${var.name}-home"
  location = var.region

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = !var.deletion_protection

  depends_on = [google_project_service.used]
}
