"""Writes docs/performance.md and its chart from what a run found."""

from typing import Any

from config import ROOT

PAGE = ROOT / "docs" / "performance.md"
CHART = ROOT / "docs" / "performance.svg"


def as_markdown(result: dict[str, Any]) -> str:
    """Return the page."""
    parts = [
        "# Performance",
        _facts(result),
        "![Requests a second](performance.svg)",
        _compared("Eight connections", result["eight"]),
        _compared("One connection", result["one"]) if result["one"] else "",
        _floor(result),
        _runs(result),
        _model(result),
        _growth(result),
        _imported(result),
        _memory(result),
        "Run `make bench` to measure your own machine, `make bench QUICK=1` for two minutes.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def write(text: str, result: dict[str, Any]) -> None:
    """Write the page and the chart."""
    PAGE.write_text(text)
    CHART.write_text(_chart(result["eight"]))


def _facts(result: dict[str, Any]) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in result["machine"].items())
    return (
        f"Measured {facts}.\n\n"
        "Two gunicorn workers of four threads, `synchronous=FULL`, a file on disk. The contenders "
        "take turns in rounds; every figure is a median. CPU is user and system time of all the "
        "server's processes, PostgreSQL's own included."
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _compared(title: str, found: dict[tuple[str, str], Any]) -> str:
    rows = []
    for (workload, name), figures in found.items():
        ceiling = found.get((workload, "bare Flask"))
        share = f"{figures.rate / ceiling.rate:.2f}" if ceiling else ""
        rows.append(
            [
                workload,
                name,
                f"{figures.rate:,.0f}",
                share,
                f"{figures.cpu:,.0f}",
                f"{figures.p50:.1f}",
                f"{figures.p99:.1f}",
            ]
        )
    head = ["workload", "server", "requests/s", "of bare Flask", "CPU µs", "p50 ms", "p99 ms"]
    return f"## {title}\n\n{_table(head, rows)}"


def _floor(result: dict[str, Any]) -> str:
    floor, chat = result["floor"], result["chat"]
    return (
        "## Floor and chat\n\n"
        f"SQLite alone, one connection, without HTTP: a read {floor['read cpu']:.0f} µs of CPU "
        f"({floor['read rate']:,.0f}/s), a durable write {floor['write cpu']:.0f} µs "
        f"({floor['write rate']:,.0f}/s).\n\n"
        "A chat (create, four appends, two lists, modify, delete) with eight clients: "
        f"{chat.rate:,.0f} requests/s, {chat.cpu:,.0f} µs of CPU a request.\n\n"
        f"From `make run` (installed, migrated) to the first 200: {result['start']:.2f} s."
    )


def _runs(result: dict[str, Any]) -> str:
    streams, rows = result["streams"], []
    for name, one in result["runs"].items():
        cost = f"{one.cpu / 1e3:,.1f}"
        rows.append([name, f"{one.rate:,.0f}", cost, f"{one.p50:.0f}", f"{one.p99:.0f}"])
    head = ["polled", "runs/s", "CPU ms a run", "p50 ms", "p99 ms"]
    return (
        "## Runs\n\nOne worker; the script answers at once. A run is created with its thread, "
        "polled every 20 ms to its end, and its messages are listed.\n\n"
        f"{_table(head, rows)}\n\n"
        "100 streams at once (`THREADS_RUNS=100`), each of 20 events a second: "
        f"{streams.events:,} events, none lost or out of order, {streams.rate:,.0f} a second. "
        f"Meanwhile a thread is retrieved with a p99 of {streams.retrieve_p99:.1f} ms, without "
        f"them {streams.retrieve_p99_alone:.1f}; the server takes {streams.megabytes:.0f} MB more. "
        f"The first event of a stream comes after {streams.first_p50:.1f} ms (p50). Without "
        f"waits one process sends {streams.fastest:,.0f} events a second."
    )


def _model(result: dict[str, Any]) -> str:
    cost = result["model"]
    return (
        "A model's endpoint behind one worker, asked directly and through the server in turn: the "
        f"first delta comes after {cost.first_direct:.1f} and {cost.first:.1f} ms (p50), the last "
        f"of 50 after {cost.last_direct:.0f} and {cost.last:.0f} ms. A streamed token takes "
        f"{cost.cpu_fast:.0f} µs of CPU as fast as they come, {cost.cpu_steady:.0f} if one comes "
        f"each millisecond. Beside 50 runs of 20 tokens a second a thread is retrieved "
        f"with a p99 of {cost.retrieve_p99:.1f} ms, without them {cost.retrieve_p99_alone:.1f}."
    )


def _growth(result: dict[str, Any]) -> str:
    sizes = sorted({size for _, size in result["growth"]})
    names = list(dict.fromkeys(name for name, _ in result["growth"]))
    rows = []
    for name in names:
        costs = [result["growth"][name, size].cpu for size in sizes]
        ratio = f"{costs[-1] / costs[0]:.2f}"
        rows.append([name, *(f"{cost:,.0f}" for cost in costs), ratio])
    head = ["CPU µs a request", *(f"{size:,} threads" for size in sizes), "last to first"]
    files = "; ".join(
        f"{each['threads']:,} threads: {each['bytes'] / 1e6:,.0f} MB "
        f"({each['bytes'] / each['threads'] / 10:.0f} bytes a message)"
        for each in result["files"]
    )
    return (
        f"## Growth\n\nTen messages a thread. {files}. The files are read once before each round: "
        f"what a disk adds is not in here.\n\n{_table(head, rows)}"
    )


def _imported(result: dict[str, Any]) -> str:
    found = result["import"]
    return (
        f"`flask import` of {found['messages']:,} messages: {found['rate']:,.0f} messages/s, "
        f"at most {found['megabytes']:.0f} MB of memory, {found['bytes']:.0f} bytes of file a "
        "message, indexes and text search included."
    )


def _memory(result: dict[str, Any]) -> str:
    rows = [[f"{served:,}", f"{megabytes:.0f}"] for served, megabytes in result["memory"]]
    head = ["requests served", "MB (master and two workers, shared pages once)"]
    return f"## Memory\n\n{_table(head, rows)}"


_STYLE = """
<style>
  text { font: 13px system-ui, sans-serif; fill: #1a1a1a }
  .muted { fill: #666 } .ours { fill: #0f766e } .other { fill: #a8a29e }
  @media (prefers-color-scheme: dark) {
    text { fill: #eee } .muted { fill: #aaa } .ours { fill: #5eead4 } .other { fill: #57534e }
  }
</style>
"""


def _chart(found: dict[tuple[str, str], Any]) -> str:
    shown = [key for key in found if key[0].startswith(("retrieve", "create, one"))]
    most = max(found[key].rate for key in shown)
    bars = []
    y, last = 10, ""
    for workload, name in shown:
        if workload != last:
            y += 26
            bars.append(f'<text x="10" y="{y}" font-weight="600">{workload}</text>')
            y, last = y + 12, workload
        rate = found[workload, name].rate
        kind = "ours" if name.startswith("this server") else "other"
        width = rate / most * 420
        bars.append(f'<text class="muted" x="130" y="{y + 15}" text-anchor="end">{name}</text>')
        bars.append(
            f'<rect class="{kind}" x="140" y="{y}" width="{width:.0f}" height="20" rx="3"/>'
        )
        bars.append(f'<text x="{148 + width:.0f}" y="{y + 15}">{rate:,.0f}/s</text>')
        y += 26
    size = f'viewBox="0 0 660 {y + 16}" width="660" height="{y + 16}"'
    label = 'role="img" aria-label="Requests a second, eight connections"'
    body = "\n".join(bars)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {label}>{_STYLE}{body}\n</svg>\n'
