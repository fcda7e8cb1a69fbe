# Who there is. What they may do is in iam_*.tf, and in the table of docs/deploy.md.
resource "google_service_account" "worker" {
  account_id   = "${var.name}-worker"
  display_name = "Weighbridge: workers of the job"
}

resource "google_service_account" "launcher" {
  account_id   = "${var.name}-launcher"
  display_name = "Weighbridge: launches, updates and drains the job"
}

resource "google_service_account" "publisher" {
  account_id   = "${var.name}-publisher"
  display_name = "Weighbridge: model services that capture"
}

resource "google_service_account" "checker" {
  account_id   = "${var.name}-checker"
  display_name = "Weighbridge: reads tables and outbox for alerts"
}

resource "google_service_account" "scheduler" {
  account_id   = "${var.name}-scheduler"
  display_name = "Weighbridge: starts the check job"
}

locals {
  worker    = google_service_account.worker.member
  launcher  = google_service_account.launcher.member
  publisher = google_service_account.publisher.member
  checker   = google_service_account.checker.member
  scheduler = google_service_account.scheduler.member
  pubsub    = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
}
