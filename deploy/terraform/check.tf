# `weighbridge check`, each few minutes: what no counter of the job can tell, as lines of a log.
resource "google_cloud_run_v2_job" "check" {
  count = var.image == "" ? 0 : 1

  name                = "${var.name}-check"
  location            = var.region
  deletion_protection = false

  template {
    template {
      service_account = google_service_account.checker.email
      max_retries     = 0
      timeout         = "600s"

      containers {
        image   = var.image
        command = ["weighbridge"]
        args = concat(
          ["check", "--extractors_package", var.extractors_package],
          flatten([for option, value in local.place : ["--${option}", value]]),
          flatten([for property in local.catalog_properties : ["--catalog_property", property]]),
        )

        env {
          name  = "WEIGHBRIDGE_LOG_FORMAT"
          value = "json"
        }

        resources {
          limits = {
            cpu    = "1"
            memory = "2Gi"
          }
        }
      }
    }
  }

  depends_on = [google_project_service.used]
}

resource "google_cloud_scheduler_job" "check" {
  count = var.image == "" ? 0 : 1

  name      = "${var.name}-check"
  region    = var.region
  schedule  = var.check_schedule
  time_zone = "Etc/UTC"

  http_target {
    http_method = "POST"
    uri         = "https://run.googleapis.com/v2/${google_cloud_run_v2_job.check[0].id}:run"

    oauth_token {
      service_account_email = google_service_account.scheduler.email
    }
  }
}
