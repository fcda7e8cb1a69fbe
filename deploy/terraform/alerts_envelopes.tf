# From the pipeline's own counters: what became of envelopes.
resource "google_monitoring_alert_policy" "dead_letters" {
  display_name          = "${var.name}: dead letters"
  combiner              = "OR"
  notification_channels = local.to_whom

  conditions {
    display_name = "more than ${var.dead_letters_per_minute} a minute"
    # A user counter is a gauge that grows, which a threshold on one metric cannot turn into a rate.
    condition_prometheus_query_language {
      query               = "sum(clamp_min(delta(dataflow_googleapis_com:job_user_counter{monitored_resource=\"dataflow_job\", job_name=\"${var.job_name}\", metric_name=~\"failures_decode|failures_route|failures_extract|failures_validate\"}[10m]), 0)) / 10 > ${var.dead_letters_per_minute}"
      duration            = "0s"
      evaluation_interval = "60s"
    }
  }

  documentation {
    content = "Envelopes that could not become rows; their bytes are kept. `weighbridge failures` shows them by cause. See docs/failures.md."
  }
}

resource "google_monitoring_alert_policy" "refused" {
  display_name          = "${var.name}: commits or pushes are refused"
  combiner              = "OR"
  notification_channels = local.to_whom

  conditions {
    display_name = "any"
    condition_prometheus_query_language {
      query               = "sum by (metric_name) (clamp_min(delta(dataflow_googleapis_com:job_user_counter{monitored_resource=\"dataflow_job\", job_name=\"${var.job_name}\", metric_name=~\"commits_refused|pushes_denied\"}[10m]), 0)) > 0"
      duration            = "0s"
      evaluation_interval = "60s"
    }
  }

  documentation {
    content = "commits_refused: a table takes no commit, and its files are listed in unwritten/. pushes_denied: Arize refuses a key or a space. See docs/situations.md."
  }
}
