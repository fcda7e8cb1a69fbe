# Numbers in lines of `weighbridge check`: a distribution each, whose highest value alerts look at.
locals {
  checks = {
    missing     = "Envelopes that were served and are nowhere, by the ledger"
    undelivered = "Seconds for which the oldest rows of a table have waited for Arize"
    freshness   = "Seconds since the newest heartbeat in the tables"
  }
}

resource "google_logging_metric" "check" {
  for_each = local.checks

  name            = "${var.name}/${each.key}"
  description     = each.value
  filter          = "resource.type=\"cloud_run_job\" AND resource.labels.job_name=\"${var.name}-check\" AND jsonPayload.check=\"${each.key}\""
  value_extractor = "EXTRACT(jsonPayload.value)"

  label_extractors = {
    model = "EXTRACT(jsonPayload.model)"
  }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "DISTRIBUTION"
    unit        = each.key == "missing" ? "1" : "s"

    labels {
      key         = "model"
      value_type  = "STRING"
      description = "Table of the model, as in the names of counters"
    }
  }

  bucket_options {
    exponential_buckets {
      num_finite_buckets = 64
      growth_factor      = 1.4
      scale              = 1
    }
  }
}
