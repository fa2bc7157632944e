"""The Grafana dashboard: `python deploy/monitoring/dashboard.py` writes its JSON into the chart."""

from __future__ import annotations

import json
from pathlib import Path

from panels import (
    BYTES,
    EACH,
    PER_SECOND,
    PLAIN,
    RATE,
    SECONDS,
    SHARE,
    Row,
    by_partition,
    dashboard,
    figure,
    lines,
    mean,
    quantile,
    quantiles,
    rate,
    share,
    table,
)

OUT = Path(__file__).parents[1] / "helm" / "winnow" / "files" / "dashboard.json"

DRIFT = (
    "max by (job, label) (abs("
    "sum by (job, label, le) (increase(winnow_score_bucket{W}[6h]) and winnow_score_bucket{W})"
    " / on (job, label) group_left () "
    "sum by (job, label) (increase(winnow_score_count{W}[6h]) and winnow_score_count{W})"
    " - on (job, label, le) avg by (job, label, le) (winnow_score_reference_ratio{W})))"
)
SCORES_NOW = (
    "sum by (job, label, le) (increase(winnow_score_bucket{W}[$__range]))"
    " / on (job, label) group_left () sum by (job, label) (increase(winnow_score_count{W}[$__range]))"
)
WHAT_RUNS = (
    "winnow_worker_info{W}"
    " * on (job, instance) group_left (name, digest) winnow_model_info{W}"
    " * on (job, instance) group_left (version, python) winnow_build_info{W}"
)

ROWS = [
    Row(
        "Is it well?",
        [
            figure(
                "Alerts",
                PLAIN,
                'count(ALERTS{alertname=~"Winnow.+", alertstate="firing"}) or vector(0)',
                "Of all workers.",
                1,
            ),
            figure("Workers", PLAIN, "count(winnow_build_info{W})", "That answer.", 0),
            figure("Ready", SHARE, "avg(winnow_ready{W})", "As /readyz says.", 0),
            figure("Broker reached", SHARE, "avg(winnow_broker_connected{W})", "By so many of the workers.", 0),
            figure("Lag", PLAIN, "sum(winnow_lag_messages{W})", "Messages stored and not yet done with."),
            figure("Oldest in the lag", SECONDS, "max(winnow_lag_seconds{W})", "How old the oldest of them is.", 300),
            figure(
                "Last progress",
                SECONDS,
                "min(time() - winnow_last_progress_timestamp_seconds{W})",
                "How long ago: with lag, minutes are a fault.",
            ),
            figure(
                "Messages",
                PER_SECOND,
                rate("winnow_delivered_total"),
                "Results and dead letters that are acknowledged.",
            ),
            figure(
                "Dead letters",
                SHARE,
                share("winnow_dead_letters_total", "winnow_consumed_total"),
                "Of what is read.",
                0.02,
            ),
            figure(
                "99 of 100 within",
                SECONDS,
                quantile(99, "winnow_end_to_end_seconds"),
                "From the broker's timestamp to the acknowledgement.",
                5,
            ),
            figure(
                "Lanes busy",
                SHARE,
                "sum(winnow_lanes_busy{W}) / sum(winnow_lanes{W})",
                "All of them and a lag that grows: more workers.",
            ),
            figure(
                "Score drift", SHARE, f"max({DRIFT})", "Largest distance from the bundle's reference, of 6 hours.", 0.2
            ),
        ],
    ),
    Row(
        "Messages",
        [
            lines(
                "In and out",
                PER_SECOND,
                read=rate("winnow_consumed_total"),
                delivered=rate("winnow_delivered_total"),
                without_value=rate("winnow_tombstones_total"),
            ),
            lines("Results", PER_SECOND, by_label=rate("winnow_results_total", "label")),
            lines(
                "Share of labels",
                SHARE,
                by_label=f"{rate('winnow_results_total', 'label')} / scalar({rate('winnow_results_total')})",
            ),
            lines(
                "Dead letters",
                PER_SECOND,
                "Those that there are, by stage and reason.",
                by_reason=f"{rate('winnow_dead_letters_total', 'stage, reason')} > 0",
            ),
            lines("By worker", PER_SECOND, by_worker=rate("winnow_delivered_total", EACH)),
            lines(
                "Actions and abstentions",
                PER_SECOND,
                by_action=rate("winnow_actions_total", "action"),
                no_score_high_enough=rate("winnow_abstained_total"),
            ),
            lines("Entities", PER_SECOND, "Of bundles that find them.", by_type=rate("winnow_entities_total", "type")),
            lines(
                "Cut and windowed texts",
                SHARE,
                cut=share("winnow_truncated_total", "winnow_delivered_total"),
                in_windows=share("winnow_windowed_total", "winnow_delivered_total"),
            ),
            lines("Windows of a long text", PLAIN, mean=share("winnow_windows_total", "winnow_windowed_total")),
        ],
    ),
    Row(
        "Latency",
        [
            quantiles(
                "End to end",
                "winnow_end_to_end_seconds",
                "From the message's broker timestamp to its acknowledgement, the lag included.",
            ),
            quantiles("In the worker", "winnow_worker_seconds", "From poll to acknowledgement."),
            lines(
                "99 of 100, by stage",
                SECONDS,
                "Of a poll: decode, tokenize; of a batch: queue, infer, infer_rest; of a message: deliver.",
                by_stage=quantile(99, "winnow_stage_seconds", "stage, "),
            ),
            lines(
                "Time by stage",
                SECONDS,
                "Seconds in a second; deliver is waiting and overlaps.",
                by_stage=rate("winnow_stage_seconds_sum", "stage"),
            ),
            lines("Mean by stage", SECONDS, by_stage=mean("winnow_stage_seconds", "stage")),
            lines(
                "99 of 100 in the worker, by worker",
                SECONDS,
                by_worker=quantile(99, "winnow_worker_seconds", f"{EACH}, "),
            ),
        ],
    ),
    Row(
        "Batches and lanes",
        [
            lines(
                "Messages of a batch",
                PLAIN,
                mean=mean("winnow_batch_messages"),
                p90=quantile(90, "winnow_batch_messages"),
            ),
            lines(
                "Padded tokens of a batch",
                PLAIN,
                mean=mean("winnow_batch_tokens"),
                p90=quantile(90, "winnow_batch_tokens"),
            ),
            lines(
                "Why batches close",
                PER_SECOND,
                "idle: there is time left; size, tokens: full; deadline: waited long enough.",
                by_reason=rate("winnow_batch_closed_total", "reason"),
            ),
            lines("Tokens", PER_SECOND, text=rate("winnow_tokens_total"), padding=rate("winnow_padding_tokens_total")),
            lines(
                "Padding",
                SHARE,
                "Of the tokens that the model computes.",
                padding=share("winnow_padding_tokens_total", "winnow_tokens_total", "winnow_padding_tokens_total"),
            ),
            lines("Lanes busy", SHARE, by_worker="winnow_lanes_busy{W} / winnow_lanes{W}"),
            lines(
                "In flight",
                PLAIN,
                "Messages taken in and not yet acknowledged.",
                in_flight="sum(winnow_in_flight_messages{W})",
                limit="sum(winnow_in_flight_limit_messages{W})",
            ),
            lines(
                "Paused",
                SHARE,
                "Of the time, because too much is in flight.",
                by_worker="rate(winnow_paused_seconds_total{W}[$__rate_interval])",
                workers_now="avg(winnow_paused{W})",
            ),
            lines(
                "Early exits",
                PER_SECOND,
                "Results, by the layers that they took.",
                by_layer=rate("winnow_exits_total", "layer"),
            ),
            lines(
                "Repeats",
                SHARE,
                "Texts whose result was known.",
                known=share("winnow_cache_hits_total", "winnow_cache_hits_total", "winnow_cache_misses_total"),
            ),
            lines("Kept results", BYTES, by_worker="winnow_cache_bytes{W}"),
        ],
    ),
    Row(
        "Kafka",
        [
            lines(
                "Lag by partition",
                PLAIN,
                "Messages stored and not yet done with.",
                by_partition=by_partition("winnow_lag_messages"),
            ),
            lines(
                "In flight by partition",
                SECONDS,
                "For how long: the oldest message that was read and is not done with.",
                by_partition=by_partition("winnow_in_flight_seconds"),
            ),
            lines(
                "Age by partition",
                SECONDS,
                "Of the oldest message that is not done with.",
                by_partition=by_partition("winnow_lag_seconds"),
            ),
            lines(
                "Not committed, by partition",
                PLAIN,
                "Done with and not committed: read again after a crash.",
                by_partition=f"{by_partition('winnow_lag_committed_messages')} - {by_partition('winnow_lag_messages')}",
            ),
            lines("Partitions", PLAIN, by_worker="winnow_partitions_assigned{W}"),
            lines("Rebalances", PLAIN, by_kind=f"sum by (kind) (increase(winnow_rebalances_total{{W}}{RATE}))"),
            lines(
                "Finishing what is revoked",
                SECONDS,
                p99=quantile(99, "winnow_rebalance_seconds"),
                mean=mean("winnow_rebalance_seconds"),
            ),
            lines(
                "Commits",
                PER_SECOND,
                "Exactly once, of transactions.",
                commits=rate("winnow_commits_total"),
                aborted=rate("winnow_transactions_aborted_total"),
            ),
            lines(
                "Done twice, lost, gone back",
                PLAIN,
                "Since the workers began: in flight in a rebalance; deleted unread; offsets that went backwards.",
                given_up="sum(winnow_given_up_total{W})",
                offset_resets="sum(winnow_offset_resets_total{W})",
                rewinds="sum(winnow_rewinds_total{W})",
            ),
            lines("Since the last progress", SECONDS, by_worker="time() - winnow_last_progress_timestamp_seconds{W}"),
        ],
    ),
    Row(
        "Scores",
        [
            lines(
                "Drift",
                SHARE,
                "Distance of a label's scores of 6 hours from those of the bundle's reference texts.",
                by_label=DRIFT,
            ),
            lines("Mean score", PLAIN, by_label=mean("winnow_score", "label")),
            lines("Mean score of entities", PLAIN, by_type=mean("winnow_entity_score", "type")),
            table(
                "Share of scores that are at most …",
                "Now: of the time that is shown.",
                now=SCORES_NOW,
                reference="avg by (job, label, le) (winnow_score_reference_ratio{W})",
            ),
        ],
    ),
    Row(
        "Processes",
        [
            lines("CPU", PLAIN, "Cores.", by_worker="rate(process_cpu_seconds_total{W}[$__rate_interval])"),
            lines(
                "Memory",
                BYTES,
                "Resident, and what it may use: of the container, or of the machine.",
                by_worker="process_resident_memory_bytes{W}",
                limit="max(winnow_memory_limit_bytes{W})",
            ),
            lines("Virtual memory", BYTES, by_worker="process_virtual_memory_bytes{W}"),
            lines("Open files", PLAIN, by_worker="process_open_fds{W}", limit="min(process_max_fds{W})"),
            lines("Running for", SECONDS, by_worker="time() - process_start_time_seconds{W}"),
            lines("Ready, by worker", PLAIN, by_worker="winnow_ready{W}"),
            table("What runs", workers=WHAT_RUNS),
        ],
    ),
]


def text() -> str:
    """What the file holds."""
    return json.dumps(dashboard(ROWS), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    OUT.write_text(text(), "utf-8")
