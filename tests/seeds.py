"""Trains several seeds and prints each result with the spread, because one seed alone may have had chance on its side.

    python3 tests/seeds.py --seeds 5 --out runs/seeds -- --steps 48000
    python3 tests/seeds.py --seeds 5 --out runs/noise -- --set synthetic.predictable_fraction=0
    python3 tests/seeds.py --seeds 5 --out runs/cartpole -- --set run.environment=cartpole

The arguments after `--` go to `plimsoll train`. Seeds that have a summary are not trained again, and interrupted seeds
go on.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--seeds", type=int, default=5)
parser.add_argument("--out", type=pathlib.Path, required=True)
parser.add_argument("--program", default="target/release/plimsoll")
parser.add_argument("more", nargs="*", help="arguments of plimsoll train")
args = parser.parse_args()


def train(seed):
    folder = args.out / f"seed{seed}"
    summary = folder / "summary.json"
    if not summary.exists():
        is_run = (folder / "config.toml").exists()
        begin = ["--resume", str(folder)] if is_run else ["--seed", str(seed), "--out", str(folder), *args.more]
        subprocess.run([args.program, "train", *begin], check=True, stderr=sys.stderr)
    return json.loads(summary.read_text())


def spread(values):
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):10.4f} ± {deviation:.4f}"


results = [train(seed) for seed in range(1, args.seeds + 1)]
if "mean_return" in results[0]["test"]["agent"]:
    print(f"{'mean return':<24}" + "".join(f"{'seed ' + str(r['seed']):>10}" for r in results) + f"{'mean ± deviation':>22}")
    for name, key in (("best validation", "agent"), ("last weights", "agent_last")):
        values = [result["test"][key]["mean_return"] for result in results]
        print(f"{name:<24}" + "".join(f"{value:10.1f}" for value in values) + f"{spread(values):>22}")
    sys.exit()
# A baseline without the equity floor is told only where the floor stopped it, which can be in some seeds alone.
rows = [name for name, row in results[0]["test"].items() if "log_return" in row and all(name in r["test"] for r in results)]
print(f"{'log return, costs paid':<24}" + "".join(f"{'seed ' + str(r['seed']):>10}" for r in results) + f"{'mean ± deviation':>22}")
for name in rows:
    values = [result["test"][name]["log_return"] for result in results]
    print(f"{name:<24}" + "".join(f"{value:10.4f}" for value in values) + f"{spread(values):>22}")
if "oracle" in rows:
    shares = [r["test"]["agent"]["log_return"] / r["test"]["oracle"]["log_return"] for r in results if r["test"]["oracle"]["trades"]]
    if shares:
        print(f"{'share of the oracle':<24}" + "".join(f"{share:10.2f}" for share in shares) + f"{spread(shares):>22}")
for what in ("flat", "buy_and_hold"):
    t = [result["test"][f"excess_over_{what}"]["t_statistic"] for result in results]
    if None not in t:
        print(f"{'t over ' + what:<24}" + "".join(f"{value:10.2f}" for value in t) + f"{spread(t):>22}")
print(f"{'minutes':<24}" + "".join(f"{r['wall_seconds'] / 60:10.1f}" for r in results))
