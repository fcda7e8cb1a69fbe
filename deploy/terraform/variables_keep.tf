# How long things are kept.
variable "archive_keep_days" {
  description = "Days after which archive files are deleted: how far back a replay reaches."
  type        = number
  default     = 30

  validation {
    condition     = var.archive_keep_days >= 7
    error_message = "archive_keep_days is at least 7: a late replay needs what Pub/Sub no longer has."
  }
}

variable "archive_retention_days" {
  description = "Days for which nobody can delete an archive file, not even to erase a person's data."
  type        = number
  default     = 7

  validation {
    condition     = var.archive_retention_days >= 1 && var.archive_retention_days <= var.archive_keep_days
    error_message = "archive_retention_days is 1 to archive_keep_days."
  }
}

variable "temp_keep_days" {
  description = "Days after which temporary files of jobs are deleted; what is staged stays, as workers that start later load it."
  type        = number
  default     = 60

  validation {
    condition     = var.temp_keep_days >= 14
    error_message = "temp_keep_days is at least 14: a job may still need a temporary file."
  }
}

variable "subscription_retention_days" {
  description = "Days for which the subscription keeps what the job has not acknowledged."
  type        = number
  default     = 7

  validation {
    condition     = var.subscription_retention_days >= 1 && var.subscription_retention_days <= 31
    error_message = "subscription_retention_days is 1 to 31."
  }
}

variable "max_delivery_attempts" {
  description = "Deliveries after which a message goes to the dead-letter topic."
  type        = number
  default     = 100

  validation {
    condition     = var.max_delivery_attempts >= 5 && var.max_delivery_attempts <= 100
    error_message = "max_delivery_attempts is 5 to 100."
  }
}

variable "deletion_protection" {
  description = "Whether buckets and the dataset refuse to be destroyed while they hold anything."
  type        = bool
  default     = true
}
