# Where tables are: a BigQuery dataset, or a BigLake catalog over the home bucket.
# The launch creates and changes tables; Terraform knows none of them.
resource "google_bigquery_dataset" "tables" {
  count = var.tables == "bigquery" ? 1 : 0

  dataset_id                 = replace(var.name, "-", "_")
  location                   = var.region
  description                = "Rows of all models, by Weighbridge"
  delete_contents_on_destroy = !var.deletion_protection

  depends_on = [google_project_service.used]
}

resource "google_biglake_iceberg_catalog" "tables" {
  count = var.tables == "iceberg" ? 1 : 0

  name             = google_storage_bucket.home.name
  catalog_type     = "CATALOG_TYPE_GCS_BUCKET"
  credential_mode  = "CREDENTIAL_MODE_END_USER"
  primary_location = var.region

  depends_on = [google_project_service.used]
}

locals {
  dataset = "${var.project}.${replace(var.name, "-", "_")}"
  home    = "gs://${google_storage_bucket.home.name}/weighbridge"

  # Options of `weighbridge`, for weighbridge.toml and for the check job alike.
  place = var.tables == "bigquery" ? {
    home    = local.home
    tables  = "bigquery"
    dataset = local.dataset
    staging = "gs://${google_storage_bucket.home.name}/staging"
    } : {
    home        = local.home
    tables      = "iceberg"
    catalog_uri = "https://biglake.googleapis.com/iceberg/v1/restcatalog"
    warehouse   = "gs://${google_storage_bucket.home.name}"
  }
  catalog_properties = var.tables == "bigquery" ? [] : [
    "auth.type=google",
    "header.x-goog-user-project=${var.project}",
  ]
}
