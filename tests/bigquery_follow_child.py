"""A follower that commits more often than BigQuery's quotas would let it. Arguments: of a run."""

import sys

from pipelines.bigquery import quota
from pipelines.main import run

quota.USABLE = 1e9
run(sys.argv[1:])
