# When somebody is told.
variable "notification_channels" {
  description = "Ids of Cloud Monitoring channels that alerts go to: projects/P/notificationChannels/N."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for channel in var.notification_channels : can(regex("^projects/[^/]+/notificationChannels/[0-9]+$", channel))])
    error_message = "notification_channels are names such as projects/my-project/notificationChannels/1234."
  }
}

variable "job_name" {
  description = "Name of the Dataflow job, which alerts and the dashboard look at."
  type        = string
  default     = "weighbridge-prod"

  validation {
    condition     = can(regex("^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$", var.job_name))
    error_message = "job_name is up to 63 of a-z, 0-9 and -."
  }
}

variable "check_schedule" {
  description = "When the check job runs, as a crontab entry in UTC. Not less often than each 20 minutes: an alert waits for half an hour of silence."
  type        = string
  default     = "*/10 * * * *"

  validation {
    condition     = length(split(" ", var.check_schedule)) == 5
    error_message = "check_schedule has five fields, such as */10 * * * *."
  }
}

variable "backlog_age_minutes" {
  description = "Minutes for which a message may wait in the subscription."
  type        = number
  default     = 15

  validation {
    condition     = var.backlog_age_minutes >= 1
    error_message = "backlog_age_minutes is at least 1."
  }
}

variable "freshness_minutes" {
  description = "Minutes by which the newest heartbeat in the tables, or the job's watermark, may be old: more than two commit intervals."
  type        = number
  default     = 20

  validation {
    condition     = var.freshness_minutes > 2 * var.commit_interval_minutes
    error_message = "freshness_minutes is more than twice commit_interval_minutes."
  }
}

variable "undelivered_minutes" {
  description = "Minutes for which rows may wait in the outbox for Arize."
  type        = number
  default     = 60

  validation {
    condition     = var.undelivered_minutes >= 10
    error_message = "undelivered_minutes is at least 10."
  }
}

variable "dead_letters_per_minute" {
  description = "Dead letters a minute, of all models, above which somebody is told."
  type        = number
  default     = 10

  validation {
    condition     = var.dead_letters_per_minute >= 0
    error_message = "dead_letters_per_minute is not negative."
  }
}
