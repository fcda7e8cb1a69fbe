resource "google_monitoring_dashboard" "overview" {
  dashboard_json = templatefile("${path.module}/dashboard.json", {
    name          = var.name
    job           = var.job_name
    pipeline      = google_pubsub_subscription.pipeline.name
    undeliverable = google_pubsub_subscription.undeliverable.name
  })

  depends_on = [google_logging_metric.check]
}
