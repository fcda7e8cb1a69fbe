"""Deployment to Dataflow: settings, checks, the plan beside the running job, and submission."""
