# Places for secrets. A value that Terraform knew would be in its state: add versions by hand.
resource "google_secret_manager_secret" "arize" {
  for_each = var.secrets

  secret_id = each.key

  replication {
    auto {}
  }

  depends_on = [google_project_service.used]
}
