resource "google_pubsub_topic_iam_member" "publishers" {
  for_each = setunion(["publisher"], var.publishers)

  topic  = google_pubsub_topic.envelopes.name
  role   = "roles/pubsub.publisher"
  member = each.key == "publisher" ? local.publisher : each.key
}

resource "google_pubsub_subscription_iam_member" "worker_pull" {
  subscription = google_pubsub_subscription.pipeline.name
  role         = "roles/pubsub.subscriber"
  member       = local.worker
}

# Dataflow asks for the subscription's backlog; the launch looks whether it is there.
resource "google_pubsub_subscription_iam_member" "look" {
  for_each = { worker = local.worker, launcher = local.launcher }

  subscription = google_pubsub_subscription.pipeline.name
  role         = "roles/pubsub.viewer"
  member       = each.value
}

# Pub/Sub itself moves what was delivered too often: out of one subscription, into a topic.
resource "google_pubsub_topic_iam_member" "pubsub_undeliverable" {
  topic  = google_pubsub_topic.undeliverable.name
  role   = "roles/pubsub.publisher"
  member = local.pubsub
}

resource "google_pubsub_subscription_iam_member" "pubsub_pipeline" {
  subscription = google_pubsub_subscription.pipeline.name
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub
}
