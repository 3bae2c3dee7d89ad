# SPDX-License-Identifier: Apache-2.0
"""Joins the rows of comm_bench and gloo.py, read from standard input, to one line a call: who took how long, in ms."""
import sys

COLUMNS = ["shm window", "shm", "OpenMPI", "Gloo"]
NAMES = {"Float": "fp32", "BFloat16": "bf16", "shm": "slots", "shm window": "window"}


def read(lines):
    """{ranks: {(operation, size, dtype): {who: (cold ms, share of memcpy, warm ms)}}}, and the other lines."""
    calls, rest = {}, []
    for line in lines:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|") or len(cells) != 10:
            rest.append(line.rstrip())
        elif cells[0] not in ("operation", "memcpy"):
            operation, size, dtype, ranks, who, cold, _, share, warm = cells[:9]
            calls.setdefault(int(ranks), {}).setdefault((operation, size, NAMES[dtype]), {})[who] = (
                float(cold.split()[0]), share, float(warm.split()[0]))
    return calls, rest


def main():
    calls, rest = read(sys.stdin)
    print("\n".join(line for line in rest if line))
    for ranks, table in calls.items():
        print(f"\n| {ranks} ranks, ms | | | window | slots | OpenMPI | Gloo | window of memcpy | slots of memcpy | warm: window, slots |")
        print("|---|---|---|---|---|---|---|---|---|---|")
        for call, found in table.items():
            cold = [f"{found[who][0]:.3g}" if who in found else "none" for who in COLUMNS]
            shares = [found[who][1] for who in COLUMNS[:2]]
            warm = ", ".join(f"{found[who][2]:.3g}" for who in COLUMNS[:2])
            print(f"| {' | '.join([*call, *cold, *shares, warm])} |")


if __name__ == "__main__":
    main()
