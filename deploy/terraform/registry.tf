# Images of launcher and workers.
resource "google_artifact_registry_repository" "images" {
  repository_id = var.name
  location      = var.region
  format        = "DOCKER"
  description   = "Images of Weighbridge"

  cleanup_policy_dry_run = false

  # Old images only: a running job starts new workers from the image that it was launched with.
  cleanup_policies {
    id     = "keep-newest"
    action = "KEEP"
    most_recent_versions {
      keep_count = 20
    }
  }
  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"
    condition {
      older_than = "15552000s"
    }
  }

  depends_on = [google_project_service.used]
}
