output "weighbridge_toml" {
  description = "What weighbridge.toml needs to know of all this: terraform output -raw weighbridge_toml"
  value = templatefile("${path.module}/weighbridge.toml.tftpl", {
    project            = var.project
    region             = var.region
    job_name           = var.job_name
    worker             = google_service_account.worker.email
    temp               = "gs://${google_storage_bucket.temp.name}"
    image              = var.image
    subscription       = google_pubsub_subscription.pipeline.id
    commit_interval    = "${var.commit_interval_minutes}m"
    extractors_package = var.extractors_package
    place              = local.place
    catalog_properties = local.catalog_properties
  })
}

output "topic" {
  description = "Topic that model services publish to, as WEIGHBRIDGE_DESTINATION takes it."
  value       = google_pubsub_topic.envelopes.id
}

output "archive" {
  description = "Folder of the archive files."
  value       = "gs://${google_storage_bucket.archive.name}/envelopes"
}

output "image_repository" {
  description = "Where images are pushed to."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}

output "temp_bucket" {
  description = "Bucket for the job's staged packages and temporary files."
  value       = "gs://${google_storage_bucket.temp.name}"
}

output "worker_account" {
  description = "Account of the workers."
  value       = google_service_account.worker.email
}

output "launcher_account" {
  description = "Account that launches, updates and drains the job."
  value       = google_service_account.launcher.email
}

output "publisher_account" {
  description = "Account for model services that have none of their own."
  value       = google_service_account.publisher.email
}
