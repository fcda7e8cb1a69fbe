# From metrics of Google's: whether the job keeps up.
locals {
  to_whom = var.notification_channels
}

resource "google_monitoring_alert_policy" "backlog_age" {
  display_name          = "${var.name}: messages wait in the subscription"
  combiner              = "OR"
  notification_channels = local.to_whom

  conditions {
    display_name = "oldest message older than ${var.backlog_age_minutes} min"
    condition_threshold {
      filter          = "resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${google_pubsub_subscription.pipeline.name}\" AND metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\""
      comparison      = "COMPARISON_GT"
      threshold_value = var.backlog_age_minutes * 60
      duration        = "300s"
      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    content = "The job is down, or has fewer workers than the traffic takes. Nothing is lost for as long as the subscription keeps messages. See docs/deploy.md, Alerts."
  }
}

resource "google_monitoring_alert_policy" "undeliverable" {
  display_name          = "${var.name}: messages in the dead-letter topic"
  combiner              = "OR"
  notification_channels = local.to_whom

  conditions {
    display_name = "any message"
    condition_threshold {
      filter          = "resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${google_pubsub_subscription.undeliverable.name}\" AND metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"
      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    content = "Messages that were delivered ${var.max_delivery_attempts} times and never acknowledged. The archive has them, too. See docs/deploy.md, Alerts."
  }
}

resource "google_monitoring_alert_policy" "watermark" {
  display_name          = "${var.name}: the job falls behind"
  combiner              = "OR"
  notification_channels = local.to_whom

  conditions {
    display_name = "watermark older than ${var.freshness_minutes} min"
    condition_threshold {
      filter          = "resource.type=\"dataflow_job\" AND resource.labels.job_name=\"${var.job_name}\" AND metric.type=\"dataflow.googleapis.com/job/data_watermark_age\""
      comparison      = "COMPARISON_GT"
      threshold_value = var.freshness_minutes * 60
      duration        = "300s"
      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    content = "A step holds up what is behind it, or there are too few workers: look at the steps' lag in the job's page. See docs/deploy.md, Alerts."
  }
}
