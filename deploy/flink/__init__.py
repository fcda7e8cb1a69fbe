"""A Flink cluster on this machine, to run the pipeline on."""
