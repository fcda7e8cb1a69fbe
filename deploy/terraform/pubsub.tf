# Envelopes come in through one topic. Two subscriptions each get all of them: the pipeline's, and
# the archive's, which needs no worker and is what a replay reads.
resource "google_pubsub_topic" "envelopes" {
  name = "${var.name}-envelopes"

  depends_on = [google_project_service.used]
}

resource "google_pubsub_topic" "undeliverable" {
  name = "${var.name}-undeliverable"

  depends_on = [google_project_service.used]
}

resource "google_pubsub_subscription" "pipeline" {
  name  = "${var.name}-pipeline"
  topic = google_pubsub_topic.envelopes.id

  # Dataflow extends deadlines itself, and drops what is delivered twice.
  ack_deadline_seconds         = 600
  message_retention_duration   = "${var.subscription_retention_days * 86400}s"
  enable_exactly_once_delivery = false

  expiration_policy {
    ttl = ""
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.undeliverable.id
    max_delivery_attempts = var.max_delivery_attempts
  }
}

resource "google_pubsub_subscription" "undeliverable" {
  name  = "${var.name}-undeliverable"
  topic = google_pubsub_topic.undeliverable.id

  message_retention_duration = "2678400s"

  expiration_policy {
    ttl = ""
  }
}

resource "google_pubsub_subscription" "archive" {
  name  = "${var.name}-archive"
  topic = google_pubsub_topic.envelopes.id

  ack_deadline_seconds       = 600
  message_retention_duration = "${var.subscription_retention_days * 86400}s"

  expiration_policy {
    ttl = ""
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  cloud_storage_config {
    bucket                   = google_storage_bucket.archive.name
    filename_prefix          = "envelopes/"
    filename_suffix          = ".avro"
    filename_datetime_format = "YYYY-MM-DD/hh_mm_ssZ"
    max_duration             = "300s"
    max_bytes                = 268435456

    # Without metadata, attributes are lost, and with them the model's id.
    avro_config {
      write_metadata   = true
      use_topic_schema = false
    }
  }

  depends_on = [
    google_storage_bucket_iam_member.archive_pubsub_create,
    google_storage_bucket_iam_member.archive_pubsub_look,
  ]
}
