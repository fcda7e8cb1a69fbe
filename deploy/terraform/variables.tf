variable "project" {
  description = "Id of the Google Cloud project, which must exist and have billing."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project is an id such as my-project, not a number or a display name."
  }
}

variable "region" {
  description = "Region of the job, its buckets and its images, such as europe-west1."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region is a region such as europe-west1, not a zone or a multi-region."
  }
}

variable "name" {
  description = "Prefix of everything that is made, so that several environments fit into one project."
  type        = string
  default     = "weighbridge"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,15}[a-z0-9]$", var.name))
    error_message = "name is 3 to 17 of a-z, 0-9 and -, as account ids may have 30 characters."
  }
}

variable "tables" {
  description = "Where rows go: bigquery for native tables, iceberg for Iceberg tables in a BigLake catalog."
  type        = string
  default     = "bigquery"

  validation {
    condition     = contains(["bigquery", "iceberg"], var.tables)
    error_message = "tables is bigquery or iceberg."
  }
}

variable "extractors_package" {
  description = "Python package of the extractors that the image holds; the check job reads owners and tables of it."
  type        = string
  default     = "extractors"

  validation {
    condition     = can(regex("^[A-Za-z_][A-Za-z0-9_.]*$", var.extractors_package))
    error_message = "extractors_package is the name of a Python package, such as shop_models."
  }
}

variable "image" {
  description = "Image of the workers and of the check job, with its tag or digest. Empty before one was pushed: then there is no check job yet."
  type        = string
  default     = ""

  validation {
    condition     = var.image == "" || can(regex("^[a-z0-9.-]+/.+(:[A-Za-z0-9_.-]+|@sha256:[0-9a-f]{64})$", var.image))
    error_message = "image names a tag or a digest: europe-west1-docker.pkg.dev/my-project/weighbridge/worker:1."
  }
}

variable "publishers" {
  description = "Members that may publish envelopes beside the publisher account, such as serviceAccount:shop@my-project.iam.gserviceaccount.com."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for member in var.publishers : can(regex("^(serviceAccount|group|user|principal|principalSet):.+", member))])
    error_message = "publishers are members such as serviceAccount:NAME@PROJECT.iam.gserviceaccount.com."
  }
}

variable "launchers" {
  description = "Members that may act as the launcher account, such as group:ml-platform@example.com or a CI system's account."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for member in var.launchers : can(regex("^(serviceAccount|group|user|principal|principalSet):.+", member))])
    error_message = "launchers are members such as group:ml-platform@example.com."
  }
}

variable "secrets" {
  description = "Names of Secret Manager secrets to make, without values: keys and space ids of Arize."
  type        = set(string)
  default     = ["arize-key", "arize-space"]

  validation {
    condition     = alltrue([for secret in var.secrets : can(regex("^[A-Za-z0-9_-]{1,255}$", secret))])
    error_message = "secrets are names of up to 255 letters, digits, - and _."
  }
}

variable "commit_interval_minutes" {
  description = "Minutes from commit to commit, written into weighbridge.toml."
  type        = number
  default     = 5

  validation {
    condition     = var.commit_interval_minutes >= 1 && var.commit_interval_minutes <= 60
    error_message = "commit_interval_minutes is 1 to 60."
  }
}
