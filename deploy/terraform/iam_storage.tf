resource "google_storage_bucket_iam_member" "temp_objects" {
  for_each = { worker = local.worker, launcher = local.launcher }

  bucket = google_storage_bucket.temp.name
  role   = "roles/storage.objectUser"
  member = each.value
}

# The launch looks whether buckets are there before it stages anything.
resource "google_storage_bucket_iam_member" "temp_look" {
  for_each = { worker = local.worker, launcher = local.launcher }

  bucket = google_storage_bucket.temp.name
  role   = "roles/storage.legacyBucketReader"
  member = each.value
}

resource "google_storage_bucket_iam_member" "home_objects" {
  for_each = { worker = local.worker, launcher = local.launcher }

  bucket = google_storage_bucket.home.name
  role   = "roles/storage.objectUser"
  member = each.value
}

resource "google_storage_bucket_iam_member" "home_look" {
  bucket = google_storage_bucket.home.name
  role   = "roles/storage.legacyBucketReader"
  member = local.launcher
}

resource "google_storage_bucket_iam_member" "home_checker" {
  bucket = google_storage_bucket.home.name
  role   = "roles/storage.objectViewer"
  member = local.checker
}

# A replay reads the archive; nobody but Pub/Sub writes it.
resource "google_storage_bucket_iam_member" "archive_read" {
  bucket = google_storage_bucket.archive.name
  role   = "roles/storage.objectViewer"
  member = local.launcher
}

resource "google_storage_bucket_iam_member" "archive_pubsub_create" {
  bucket = google_storage_bucket.archive.name
  role   = "roles/storage.objectCreator"
  member = local.pubsub
}

resource "google_storage_bucket_iam_member" "archive_pubsub_look" {
  bucket = google_storage_bucket.archive.name
  role   = "roles/storage.legacyBucketReader"
  member = local.pubsub
}
