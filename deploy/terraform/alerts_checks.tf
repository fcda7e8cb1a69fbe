# From lines of `weighbridge check`. The mean is exact, where a percentile would be read off buckets;
# a period of 20 minutes holds one or two checks.
locals {
  check_alerts = {
    missing = {
      title  = "the ledger does not balance"
      above  = 0
      remedy = "Envelopes that services have served are nowhere. `weighbridge ledger --check` names publishers and sequence numbers. See docs/ledger.md."
    }
    undelivered = {
      title  = "rows wait for Arize"
      above  = var.undelivered_minutes * 60
      remedy = "Rows are in the tables and not in Arize. `weighbridge arize status` says why. See docs/arize.md."
    }
    freshness = {
      title  = "tables are stale"
      above  = var.freshness_minutes * 60
      remedy = "Publishers send a heartbeat each minute, whether there is traffic or not, and none is new in the tables. See docs/deploy.md, Alerts."
    }
  }
}

resource "google_monitoring_alert_policy" "check" {
  for_each = local.check_alerts

  display_name          = "${var.name}: ${each.value.title}"
  combiner              = "OR"
  notification_channels = local.to_whom

  conditions {
    display_name = "above ${each.value.above}"
    condition_threshold {
      filter          = "resource.type=\"cloud_run_job\" AND metric.type=\"logging.googleapis.com/user/${google_logging_metric.check[each.key].name}\""
      comparison      = "COMPARISON_GT"
      threshold_value = each.value.above
      duration        = "0s"
      aggregations {
        alignment_period     = "1200s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_MEAN"
        group_by_fields      = ["metric.label.model"]
      }
    }
  }

  documentation {
    content = each.value.remedy
  }
}

# Silence is not good news.
resource "google_monitoring_alert_policy" "no_check" {
  count = var.image == "" ? 0 : 1

  display_name          = "${var.name}: nobody checks"
  combiner              = "OR"
  notification_channels = local.to_whom

  conditions {
    display_name = "no check for half an hour"
    condition_absent {
      filter   = "resource.type=\"cloud_run_job\" AND metric.type=\"logging.googleapis.com/user/${google_logging_metric.check["missing"].name}\""
      duration = "1800s"
      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_COUNT"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  documentation {
    content = "The check job does not run, or fails: look at its log. See docs/deploy.md, Alerts."
  }
}
