# SPDX-License-Identifier: BSD-3-Clause
"""From samples to medians, ratios, marks and a page of text."""

from statistics import median

FIELDS = ("ops", "cpu_us", "p99_us", "peak_kib")

# (workload, field, the mark for breakwater / peer, whether more is better, peers: one or several of
# which the best counts)
MARKS = [
    ("randread-4k-d32", "ops", 1.5, True, ("nbdkit",)),
    ("randread-4k-d32", "ops", 2.5, True, ("qemu-nbd",)),
    ("randread-4k-d32", "cpu_us", 0.55, False, ("nbdkit",)),
    ("randwrite-4k-d32", "ops", 1.1, True, ("nbdkit",)),
    ("randwrite-4k-d32", "cpu_us", 0.7, False, ("nbdkit",)),
    ("read-1m-d8", "ops", 1.0, True, ("nbdkit",)),
    ("write-1m-d8", "ops", 1.0, True, ("nbdkit",)),
    ("tls-read-1m-d8", "ops", 1.3, True, ("nbdkit",)),
    ("alloc-4k-d32", "ops", 1.5, True, ("qemu-nbd",)),
    ("randread-4k-d1", "ops", 1.0, True, ("qemu-nbd", "nbdkit")),
    ("randwrite-4k-d1", "ops", 1.0, True, ("qemu-nbd", "nbdkit")),
]
IDLE_MARK_KIB = 32 * 1024


def medians(samples):
    """samples: {(workload, server): [{field: value}, ...]} to {(workload, server): {field: median}}."""
    return {key: {field: median(sample[field] for sample in rounds) for field in FIELDS}
            for key, rounds in samples.items() if rounds}


def judge(middle, idle):
    """The marks that this run can judge, as dictionaries with the ratio and whether it is met."""
    verdicts = []
    for workload, field, mark, more, peers in MARKS:
        ours = middle.get((workload, "breakwater"))
        theirs = [middle[(workload, peer)][field] for peer in peers if (workload, peer) in middle]
        if not ours or len(theirs) != len(peers):
            continue
        best = max(theirs) if more else min(theirs)
        ratio = ours[field] / best if best else float("inf")
        verdicts.append({"workload": workload, "field": field, "against": " and ".join(peers),
                         "ratio": ratio, "mark": mark, "at_least": more,
                         "met": ratio >= mark if more else ratio <= mark})
    if "breakwater" in idle:
        verdicts.append({"workload": "idle", "field": "resident_kib", "against": "32 MiB",
                         "ratio": idle["breakwater"] / IDLE_MARK_KIB, "mark": 1.0,
                         "at_least": False, "met": idle["breakwater"] <= IDLE_MARK_KIB})
    return verdicts


def spread(samples, key):
    """Half the range of the operations per second, in per cent of the median: how noisy it was."""
    values = [sample["ops"] for sample in samples[key]]
    return 50.0 * (max(values) - min(values)) / median(values) if median(values) else 0.0


def render(facts, workloads, servers, samples, idle, connections):
    middle = medians(samples)
    lines = ["breakwater benchmark, %s" % facts["date"], ""]
    lines += ["%-11s %s" % (key, facts[key]) for key in sorted(facts) if key != "date"]
    lines += ["", "Medians. cpu: microseconds of server CPU per operation; p99: of completion",
              "latency, microseconds; peak: resident memory of the server, MiB; +-: half the range",
              "of operations per second over the rounds.", ""]
    lines.append("%-17s %-11s %10s %6s %8s %9s %8s" % (
        "workload", "server", "ops/s", "+-", "cpu", "p99", "peak"))
    for workload in workloads:
        for server in servers:
            cell = middle.get((workload, server))
            if cell:
                lines.append("%-17s %-11s %10.0f %5.1f%% %8.2f %9.0f %8.1f" % (
                    workload, server, cell["ops"], spread(samples, (workload, server)),
                    cell["cpu_us"], cell["p99_us"], cell["peak_kib"] / 1024))
        lines.append("")
    for server in servers:
        if server in idle:
            lines.append("%d idle connections: %-11s %.1f MiB resident" % (
                connections, server, idle[server] / 1024))
    verdicts = judge(middle, idle)
    if verdicts:
        lines += ["", "Ratios, breakwater / peer:", ""]
    for verdict in verdicts:
        lines.append("%-5s %-17s %-12s vs %-19s %6.2f  (mark: %s %.2f)" % (
            "met" if verdict["met"] else "SHORT", verdict["workload"], verdict["field"],
            verdict["against"], verdict["ratio"],
            "at least" if verdict["at_least"] else "at most", verdict["mark"]))
    return "\n".join(lines) + "\n", verdicts
