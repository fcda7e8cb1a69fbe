"""deploy/terraform parses, hangs together, and asks for what the code gives and the docs say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from support import Home
from terraform import FOLDER, Grant, blocks, files, grants, local, resources, text
from test_check import check, traffic
from test_docs import DOCS, _counters

from pipelines.check import CHECKS
from pipelines.cli import cli
from pipelines.config.options import _all_options
from weighbridge.archive import _SCHEMA

GOOGLE = {
    # cloud.google.com/monitoring/api/metrics_gcp, the pages of Dataflow and Pub/Sub
    "dataflow.googleapis.com/job/current_num_vcpus",
    "dataflow.googleapis.com/job/data_watermark_age",
    "dataflow.googleapis.com/job/system_lag",
    "dataflow.googleapis.com/job/user_counter",
    "pubsub.googleapis.com/subscription/num_undelivered_messages",
    "pubsub.googleapis.com/subscription/oldest_unacked_message_age",
}
# developer.hashicorp.com/terraform: what `metadata` of a Cloud Storage subscription's Avro is.
METADATA = {"subscription_name", "message_id", "publish_time", "attributes", "data"}


def everything() -> str:
    return "\n".join(path.read_text() for path in sorted(FOLDER.glob("*.tf")))


def test_files_are_small_and_parse() -> None:
    assert len(files()) > 15
    for path in FOLDER.glob("*.tf"):
        assert len(path.read_text().splitlines()) < 130, path


def test_every_variable_is_described_checked_and_used() -> None:
    declared = dict(blocks("variable"))
    assert len(declared) > 15
    for name, body in declared.items():
        assert text(body["description"]).endswith((".", "}")), name
        assert body["type"] == "bool" or body["validation"][0]["error_message"], name
    assert set(re.findall(r"\bvar\.(\w+)", _without_conditions())) == set(declared)
    for name, body in blocks("output"):
        assert body["description"], name


def _without_conditions() -> str:
    """A variable that only its own condition names is not used."""
    return re.sub(r"validation \{.*?\n  \}", "", everything(), flags=re.S)


def test_what_is_referred_to_is_there() -> None:
    known = {*resources(), "google_project.this"}
    found = {match[0] for match in re.finditer(r"\bgoogle_\w+\.[a-z_]\w*", everything())}
    assert found - known == set()
    assert len(found) > 15
    named = {
        name for parsed in files().values() for some in parsed.get("locals", ()) for name in some
    }
    assert set(re.findall(r"\blocal\.(\w+)", everything())) <= named


# Metrics


def _log_metrics() -> set[str]:
    return {f"logging.googleapis.com/user/NAME/{name}" for name in local("checks")}


def _metrics(of: str) -> set[str]:
    """Metrics that a text asks for; of counters `user_counter:NAME`."""
    for pattern, name in (
        (r'\$\{google_logging_metric\.check\["(\w+)"\]\.name\}', r"NAME/\1"),
        (r"\$\{google_logging_metric\.check\[each\.key\]\.name\}", "NAME/*"),
        (r"\$\{name\}/", "NAME/"),
    ):
        of = re.sub(pattern, name, of)
    counters = re.findall(r'metric_name=~"([^"]+)"', of)
    assert bool(counters) == ("dataflow_googleapis_com:job_user_counter{" in of)
    found = {f"user_counter:{name}" for names in counters for name in names.split("|")}
    return found | set(re.findall(r'metric\.type="([^"]+)"', of))


def _known() -> set[str]:
    counters = {f"user_counter:{name}" for name in _counters()}
    return GOOGLE | _log_metrics() | counters


def test_alerts_ask_for_metrics_that_are_there() -> None:
    asked: set[str] = set()
    policies = resources("google_monitoring_alert_policy")
    for name, body in policies.items():
        own = _metrics(re.sub(r'\\+(?=")', "", json.dumps(body)))
        assert own, name
        assert body["documentation"][0]["content"], name
        assert "notification_channels" in body
        asked |= own
    every = "logging.googleapis.com/user/NAME/*"
    assert every in asked
    assert asked - {every} <= _known()
    assert set(local("check_alerts")) == set(local("checks")) == set(CHECKS)
    # What issue and page promise: backlog age, dead letters, freshness, ledger, pushes.
    assert len(policies) == 7
    assert {"user_counter:failures_decode", "user_counter:failures_validate"} <= asked


def test_the_dashboard_is_one_and_shows_what_is_there() -> None:
    raw = (FOLDER / "dashboard.json").read_text()
    parsed = json.loads(raw)
    tiles = parsed["mosaicLayout"]["tiles"]
    assert len(tiles) >= 10
    assert len({(tile["xPos"], tile["yPos"]) for tile in tiles}) == len(tiles)
    shown: set[str] = set()
    for tile in tiles:
        for data in tile["widget"]["xyChart"]["dataSets"]:
            query = data["timeSeriesQuery"]
            asked = query.get("prometheusQuery") or query["timeSeriesFilter"]["filter"]
            own = _metrics(asked)
            assert own, tile["widget"]["title"]
            shown |= own
    assert shown <= _known()
    assert _log_metrics() <= shown
    # Every counter is on it, but those that only explain others.
    counters = {f"user_counter:{name}" for name in _counters()}
    assert counters - shown == {
        "user_counter:payloads_with_nan",
        "user_counter:heartbeats_received",
    }
    [template] = re.findall(r"templatefile\(\"\$\{path.module\}/dashboard.json\", \{(.*?)\}\)",
                            (FOLDER / "dashboard.tf").read_text(), re.S)  # fmt: skip
    given = set(re.findall(r"^\s+(\w+)\s+=", template, re.M))
    assert set(re.findall(r"\$\{(\w+)\}", raw)) == given


# Log-based metrics, against what the command writes


def _value(entry: dict[str, Any], path: str) -> Any:
    found: Any = entry
    for part in path.split("."):
        found = found[part]
    return found


def _matches(entry: dict[str, Any], query: str) -> bool:
    """Whether an entry matches a query of Cloud Logging made of `path="value"` and AND."""
    for part in query.split(" AND "):
        path, _, value = part.partition("=")
        assert re.fullmatch(r'"[^"]*"', value), part
        try:
            if str(_value(entry, path)) != value.strip('"'):
                return False
        except KeyError:
            return False
    return True


def test_log_based_metrics_match_what_the_check_writes(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.put(*traffic(served=5, sent=3))
    home.run()
    _, lines = check(home)
    resource = {"type": "cloud_run_job", "labels": {"job_name": "weighbridge-check"}}
    entries = [{"resource": resource, "severity": line.pop("severity"), "jsonPayload": line}
               for line in lines]  # fmt: skip
    [metric] = resources("google_logging_metric").values()
    query = text(metric["filter"]).replace("${var.name}", "weighbridge")
    assert text(metric["name"]) == "${var.name}/${each.key}"
    for name in local("checks"):
        own = [e for e in entries if _matches(e, query.replace("${each.key}", name))]
        assert own and {entry["jsonPayload"]["check"] for entry in own} == {name}
        for entry in own:
            [path] = re.fullmatch(r"EXTRACT\(([\w.]+)\)", text(metric["value_extractor"])).groups()
            assert isinstance(_value(entry, path), (int, float))
            for label, extractor in metric["label_extractors"].items():
                if label.startswith("__"):
                    continue
                [path] = re.fullmatch(r"EXTRACT\(([\w.]+)\)", text(extractor)).groups()
                assert isinstance(_value(entry, path), str)
    other = {"resource": resource, "severity": "INFO", "jsonPayload": {"message": "", "check": "x"}}
    assert not _matches(other, query.replace("${each.key}", "missing"))


def test_the_job_calls_the_command_as_it_is() -> None:
    [job] = resources("google_cloud_run_v2_job").values()
    [container] = job["template"][0]["template"][0]["containers"]
    assert container["command"] == ['"weighbridge"']
    words = re.findall(r'"(--\w+|\w+)"', str(container["args"]))
    assert words[0] == "check"
    options = [flag for parameter in cli.commands["check"].params for flag in parameter.opts]
    assert {word for word in words if word.startswith("--")} <= set(options)
    assert _place_options() <= {flag.removeprefix("--") for flag in options}
    assert {text(one["name"]): text(one["value"]) for one in container["env"]} == {
        "WEIGHBRIDGE_LOG_FORMAT": "json"
    }


def _place_options() -> set[str]:
    return set(re.findall(r"(\w+)\s*=(?!=)", re.sub(r"\$\{[^}]*\}", "", str(local("place"))[2:])))


# Who may do what


def test_the_table_of_the_docs_is_what_is_granted() -> None:
    page = (DOCS / "deploy.md").read_text()
    [table] = re.findall(r"^\| who \| role \| on \|.*\n\|[-|]+\n((?:\|.*\n)+)", page, re.M)
    said = set()
    for row in table.splitlines():
        who, role, on, why = (cell.strip() for cell in row.strip("|").split("|"))
        assert why, row
        said |= {Grant(one, role.strip("`"), on.strip("`")) for one in re.findall(r"`(\w+)`", who)}
    assert said == set(grants())


def test_nothing_is_granted_too_widely() -> None:
    for grant in grants():
        role = grant.role.removeprefix("roles/")
        assert role not in ("owner", "editor", "viewer"), grant
        assert not role.lower().endswith("admin"), grant
    on_project = {grant.role.removeprefix("roles/") for grant in grants() if grant.on == "project"}
    assert on_project == {
        "dataflow.worker", "dataflow.developer", "bigquery.jobUser", "bigquery.readSessionUser",
        "biglake.editor", "biglake.viewer", "serviceusage.serviceUsageConsumer",
    }  # fmt: skip
    assert not any(name.endswith(("_iam_policy", "_iam_binding"))
                   for name in (key.partition(".")[0] for key in resources()))  # fmt: skip


def test_terraform_knows_no_secret() -> None:
    assert not resources("google_secret_manager_secret_version", "google_service_account_key")


# What it makes


def test_the_archive_subscription_writes_what_the_reader_takes() -> None:
    subscriptions = resources("google_pubsub_subscription")
    [config] = subscriptions["google_pubsub_subscription.archive"]["cloud_storage_config"]
    assert text(config["filename_suffix"]) == ".avro"
    [avro] = config["avro_config"]
    assert avro["write_metadata"] is True and avro["use_topic_schema"] is False
    fields = {field["name"] for field in _SCHEMA["fields"]}  # type: ignore[index, call-overload]
    assert fields >= METADATA
    topics = {text(body["topic"]) for body in subscriptions.values()}
    assert "${google_pubsub_topic.envelopes.id}" in topics
    pipeline = subscriptions["google_pubsub_subscription.pipeline"]
    assert pipeline["dead_letter_policy"] and pipeline["retry_policy"]


def test_buckets_are_closed_and_forget_what_they_should() -> None:
    buckets = resources("google_storage_bucket")
    for body in buckets.values():
        assert body["uniform_bucket_level_access"] is True
        assert text(body["public_access_prevention"]) == "enforced"
    [rule] = buckets["google_storage_bucket.temp"]["lifecycle_rule"]
    [condition] = rule["condition"]
    # Workers load what is staged for as long as the job runs.
    raw = (FOLDER / "weighbridge.toml.tftpl").read_text()
    places = dict(re.findall(r'^(staging|temp)_location = "\$\{temp\}/(.*)"$', raw, re.M))
    [prefix] = map(text, condition["matches_prefix"])
    assert f"{places['temp']}/".startswith(prefix)
    assert not f"{places['staging']}/".startswith(prefix)
    assert buckets["google_storage_bucket.archive"]["retention_policy"]
    assert "lifecycle_rule" not in buckets["google_storage_bucket.home"]


def test_settings_of_the_output_are_options() -> None:
    raw = (FOLDER / "weighbridge.toml.tftpl").read_text()
    named = set(re.findall(r"^(\w+) = ", raw, re.M)) - {"space_id", "api_key"}
    assert {"input_subscription", "catalog_property"} <= named
    assert named | _place_options() <= set(_all_options())
    assert {"home", "tables", "dataset", "catalog_uri"} <= _place_options()
