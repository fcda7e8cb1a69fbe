"""Tables in BigQuery: data files staged on Cloud Storage, and a load job for each commit."""
