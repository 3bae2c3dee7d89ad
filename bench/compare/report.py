# SPDX-License-Identifier: Apache-2.0
"""Tables and a page of the comparison.

    .venv/bin/python bench/compare/report.py out/bench/compare/*.json      joins cases that were run one by one
"""
import html
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess

import arguments
from cases import OURS, TWO_JOBS, cpu_flags

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
STYLE = ROOT / "libs/train/src/report/page/report.css"
CHART_JS = [pathlib.Path("/usr/share/javascript/chart.js/chart.min.js"), pathlib.Path("/usr/share/nodejs/chart.js/dist/chart.min.js")]


def instructions():
    """The widest that products can use here."""
    known = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16", "avx512f": "AVX-512", "avx2": "AVX2"}
    return next((" with " + name for flag, name in known.items() if flag in cpu_flags()), "")


def machine():
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) / 2**20
    return f"{cpu[1] if cpu else platform.machine()}{instructions()}, {os.cpu_count()} cores, {memory:.0f} GiB"


def commit():
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True)
    return (head.stdout.strip() or "unknown") + (" (with changes)" if changed.stdout.strip() else "")


def spread(values, digits=0):
    return f"{statistics.median(values):,.{digits}f} [{min(values):,.{digits}f}..{max(values):,.{digits}f}]"


def percents(values):
    return f"{statistics.median(values):.0%} [{min(values):.0%}..{max(values):.0%}]"


def start_up(result, name, rounds):
    """Seconds from starting the process until its first training step begins, and until it ends."""
    ends = [one["first_step_s"] for one in rounds]
    begins = [end - one["first_step_ms"] / 1000 for end, one in zip(ends, rounds)]
    trainer = result["trainers"][name]
    libraries = result["libraries_s"].get("ours" if trainer == "jobs" else trainer)
    return spread(begins, 1) + (f", libraries {libraries:.1f}" if libraries is not None else ""), spread(ends, 1)


def better_products(result):
    """(who, GFLOP/s round by round) of the case's matrix products by themselves, whoever does them faster; None where not measured."""
    if not result["isolated"]:
        return None
    rates = {who: [one[key] for one in result["isolated"]] for who, key in ((OURS, "ours_gflops"), ("ATen", "aten_gflops"))}
    return max(rates.items(), key=lambda pair: statistics.median(pair[1]))


def model_flops(result):
    """Of a step and rank, attention included."""
    return result["flops"]["matrix"] + result["flops"]["attention"]


def share_of_rate(result, rounds):
    """The model's FLOPs over the step's time and that rate, round by round."""
    best, total = better_products(result), model_flops(result)
    return best and [total / (rate * 1e9) / (one["step_ms"] / 1000) for rate, one in zip(best[1], rounds)]


def disturbed(rounds):
    """Numbers of the rounds in which too few steps were quiet, so that all were used."""
    return [number for number, one in enumerate(rounds, 1) if not one["quiet"]]


def which_steps(result):
    listed = [f"{name} (round {', '.join(map(str, numbers))})" for name, rounds in result["runs"].items()
              if (numbers := disturbed(rounds))]
    return "quiet steps only" + (f", but all steps, quiet or not, of {'; '.join(listed)}" if listed else "")


def quiet_steps(rounds):
    text = f"{sum(one['quiet_steps'] for one in rounds)}/{sum(len(one['foreign']) for one in rounds)}"
    numbers = disturbed(rounds)
    return text + (f"; all used in round {', '.join(map(str, numbers))}" if numbers else "")


def speed_rows(result):
    for name, rounds in result["runs"].items():
        column = lambda key: [one[key] for one in rounds]
        steps = [ms for one in rounds for ms in one["step_ms_used"]]
        peaks = max(column("rank_peaks_mib"), key=lambda ranks: max(ranks, default=0))
        faults = [count for count in column("faults") if count is not None]
        ratios, share = result["ratios"].get(name), share_of_rate(result, rounds)
        yield [name, spread(column("tokens_per_second")), spread(ratios, 2) if ratios else "1", spread(steps), percents(share) if share else "-",
               ", ".join(f"{mib:,}" for mib in peaks), f"{statistics.median(faults):,.0f}" if faults else "-",
               *start_up(result, name, rounds), quiet_steps(rounds)]


COLUMNS = ["", "tokens/s", f"{OURS} is faster by", "step ms", "share of the products' rate", "peak RSS MiB a rank", "page faults a step",
           "first step begins s", "first step ends s", "quiet steps"]
ABOUT = ("Medians [least..most]. First step: from starting the process until it begins (of that, loading libraries alone) and until it "
         "ends. Share of the products' rate: the model's FLOPs, attention counted as its mask leaves it, over the step's time and the "
         "rate that the model's matrix products reach by themselves in the same round.")


def facts(result):
    """What stands under a case's table: (name, value)."""
    best, flops, isolated = result["best_peer"], result["flops"], result["isolated"]
    step_s = statistics.median(ms for one in result["runs"][OURS] for ms in one["step_ms_used"]) / 1000
    yield "ratio", f"{OURS} / {best}, the fastest peer, round by round: {spread(result['ratios'][best], 2)}"
    if TWO_JOBS in result["ratios"]:
        yield "ranks", f"FSDP2 on {result['ranks']} ranks / as many jobs of one rank: {spread(result['ratios'][TWO_JOBS], 2)}"
    if isolated:
        ours, aten = ([one[key] for one in isolated] for key in ("ours_gflops", "aten_gflops"))
        yield "matrix products", (
            f"by themselves {spread(ours)} GFLOP/s with {OURS}'s kernels and {spread(aten)} with ATen's "
            f"(torch.mm: {'oneDNN' if result['dtype'] == 'bfloat16' else 'MKL'}), {result['threads']} threads, the case's shapes, forward "
            f"and both gradients; the share above is of {better_products(result)[0]}'s")
    total = model_flops(result)
    yield "work", (f"{result['parameters'] / 1e6:.2f} M parameters; {total / 1e12:.3f} TFLOP a step and rank, of it attention "
                   f"{flops['attention'] / total:.0%}; {OURS} reaches {total / step_s / 1e9:,.0f} GFLOP/s a rank")
    losses, curves = result["losses"], result["curves"]
    yield "first loss", f"fp32 {losses['float32']:.6f} here, {losses['float32_peer']:.6f} in PyTorch"
    if curves:
        names = list(curves["losses"])
        yield "loss curves", (f"over {curves['steps']} steps from the same weights {OURS} and {names[1]} differ by "
                              f"{curves['difference']:.1e} (allowed {curves['allowed']:.1e}; {names[2]} and {names[1]}: "
                              f"{curves['own_difference']:.1e}); last loss {curves['losses'][OURS][-1]:.4f} and "
                              f"{curves['losses'][names[1]][-1]:.4f}")
    else:
        yield "loss curves", "not compared in this run" + ("; the case of one rank does" if result["ranks"] > 1 else "")
    for name, settings in result["settings"].items():
        yield name, settings
    yield "settings", (f"{result['ranks']} x {result['threads']} threads, {result['dtype']} compute, fp32 master, AdamW, clip 1; malloc "
                       f"tuned on all sides ({' '.join(f'{k}={v}' for k, v in result['malloc'].items())}); {result['rounds']} rounds of "
                       f"{result['steps']} measured steps, interleaved; {which_steps(result)}")
    yield "versions", ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    yield "command", f"`{result['command']}`"
    yield "commit", f"{result['commit']}; {result['machine']}"


def markdown(results):
    lines = ["# Comparison with PyTorch", "", ABOUT, ""]
    for result in results:
        lines += [f"## {result['title']}", "", "| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in speed_rows(result)]
        lines += ["", *(f"- {name}: {value}" for name, value in facts(result)), ""]
    return "\n".join(lines)


def page(results):
    """One file without outside references, drawn by Chart.js as the report of a training is."""
    library = next((path for path in CHART_JS if path.exists()), None)
    if library is None:
        raise SystemExit("report.py: chart.min.js not found: install libjs-chart.js")
    charts, sections = [], []
    for result in results:
        names = list(result["runs"])
        rates = [[one["tokens_per_second"] for one in result["runs"][name]] for name in names]
        bars = [statistics.median(values) for values in rates]
        charts.append({"kind": "bars", "labels": names, "values": bars, "ranges": [[min(v), max(v)] for v in rates],
                       "ours": [name == OURS for name in names]})
        cards = card(len(charts) - 1, "Speed", "tokens/s, whisker: slowest and fastest round")
        if result["curves"]:
            charts.append({"kind": "curves", "losses": result["curves"]["losses"]})
            cards += card(len(charts) - 1, "Loss", "from the same weights")
        cell = lambda tag, text, number: f"<{tag}{' class=number' if number else ''}>{html.escape(text)}</{tag}>"
        row = lambda tag, cells: "<tr>" + "".join(cell(tag, text, i > 0) for i, text in enumerate(cells)) + "</tr>"
        table = (f"<div class='card table'><table><thead>{row('th', COLUMNS)}</thead><tbody>"
                 + "".join(row("td", cells) for cells in speed_rows(result)) + "</tbody></table></div>")
        listed = "".join(f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value.replace('`', ''))}</dd></div>"
                         for name, value in facts(result))
        sections.append(f"<section><div class=head><h2>{html.escape(result['title'])}</h2></div><div class=charts>{cards}</div>"
                        f"{table}<dl class='facts wide'>{listed}</dl></section>")
    template = (HERE / "page.html").read_text()
    for mark, text in (("STYLE", STYLE.read_text()), ("ABOUT", ABOUT), ("SECTIONS", "\n".join(sections)), ("CHARTS", json.dumps(charts).replace("<", "\\u003c")),
                       ("LIBRARY", library.read_text().replace("</script", "<\\/script"))):
        template = template.replace(f"{{{{{mark}}}}}", text)
    return template


def card(number, title, unit):
    return (f"<figure class='card chart' data-chart={number}><figcaption><h3>{title} <span class=unit>{unit}</span></h3></figcaption>"
            "<div class=plot><canvas></canvas></div></figure>")


def write(results, out):
    """compare.md, compare.html and compare.json in `out`. Returns the Markdown."""
    text = markdown(results)
    (out / "compare.md").write_text(text)
    (out / "compare.html").write_text(page(results))
    (out / "compare.json").write_text(json.dumps(results, indent=1))
    return text


def main():
    parser = arguments.Parser(prog="report.py", description=__doc__.split("\n")[0])
    parser.add_argument("results", type=arguments.existing_file, nargs="+", help="CASE.json files that compare.py wrote")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "out/bench")
    args = parser.parse_args()
    print(write([json.loads(path.read_text()) for path in args.results], arguments.output_folder(parser, args.out)))


if __name__ == "__main__":
    main()
