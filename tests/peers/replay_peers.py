"""Does the work of `plimsoll bench replay` with other replays and prints one JSON line per row.

    python3 -m venv .peers && .peers/bin/pip install torch==2.11.0 torchrl==0.13.3 tensordict==0.13.0 cpprb \
        stable-baselines3 gymnasium numpy
    .peers/bin/python tests/peers/replay_peers.py --peer cpprb --capacity 100000

`plimsoll bench replay --peers` runs this script in turn with its own rows. An observation is 817 f32, and the next
observation 817 more. Sampling is prioritized with alpha 0.6 and beta 0.4; Stable-Baselines3 samples uniformly and has
no priorities to update. Observations and next observations are delivered as torch tensors. A sample is timed together
with its update of the priorities. Everything runs on one thread, and each figure is the median of several repeats.

Peers: cpprb, torchrl (a tensor in memory), torchrl-memmap (a file in --folder), sb3.
Rows: sample_32, sample_256, sample_1024, insert_256 and insert_1 (transitions/s), bytes (per transition), checkpoint
(seconds for the whole replay), latency (of a sample of 256 with its update: median_ms, p99_ms, p999_ms; the value is
p99 / median).
"""

import os

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import argparse
import json
import shutil
import sys
import tempfile
import time
import warnings

warnings.filterwarnings("ignore")

WIDTH = 817
ALPHA, BETA = 0.6, 0.4
ROWS = ["insert_256", "insert_1", "bytes", "sample_32", "sample_256", "sample_1024", "latency", "checkpoint"]


def resident_bytes():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def steps(np, n, seed):
    """n transitions as columns, whose observations drift as feature rows do."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.normal(0, 0.05, (n + 1, WIDTH)), axis=0, dtype=np.float32)
    np.tanh(walk, out=walk)
    return {
        "obs": walk[:-1],
        "next_obs": walk[1:],
        "act": rng.integers(0, 3, n).astype(np.int64),
        "rew": rng.normal(0, 1, n).astype(np.float32),
        "done": np.zeros(n, np.float32),
    }


class Cpprb:
    """cpprb's PrioritizedReplayBuffer; next observations shared with the observations where `shared`."""

    def __init__(self, capacity, folder, shared=False):
        import cpprb
        import numpy
        import torch

        self.torch, self.np, self.version = torch, numpy, f"cpprb {version('cpprb')}" + " shared" * shared
        fields = {"obs": {"shape": WIDTH}, "act": {"dtype": numpy.int64}, "rew": {}, "done": {}}
        extra = {"next_of": "obs"} if shared else {}
        if not shared:
            fields["next_obs"] = {"shape": WIDTH}
        self.shared = shared
        self.buffer = cpprb.PrioritizedReplayBuffer(capacity, fields, alpha=ALPHA, **extra)

    def insert(self, columns):
        self.buffer.add(**columns)

    def prepared(self, columns, start, n):
        part = {name: column[start : start + n] for name, column in columns.items()}
        return part if n > 1 else {name: column[0] for name, column in part.items()}

    def sample(self, n):
        batch = self.buffer.sample(n, beta=BETA)
        tensors = [self.torch.from_numpy(batch[name]) for name in ("obs", "next_obs", "act", "rew", "weights")]
        return tensors, batch["indexes"]

    def update(self, indexes, errors):
        self.buffer.update_priorities(indexes, errors)

    def checkpoint(self, path):
        self.buffer.save_transitions(path)


class CpprbShared(Cpprb):
    """cpprb with next observations shared, which halves the bytes and is a little slower."""

    def __init__(self, capacity, folder):
        super().__init__(capacity, folder, shared=True)


class TorchRl:
    """TorchRL's TensorDictReplayBuffer with a PrioritizedSampler."""

    def __init__(self, capacity, folder, mapped=False):
        import numpy
        import torch
        from tensordict import TensorDict
        from torchrl.data import LazyMemmapStorage, LazyTensorStorage, TensorDictReplayBuffer
        from torchrl.data.replay_buffers.samplers import PrioritizedSampler

        self.torch, self.np, self.version = torch, numpy, f"TorchRL {version('torchrl')}"
        self.TensorDict = TensorDict
        if mapped:
            self.version += " memmap"
            storage = LazyMemmapStorage(capacity, scratch_dir=folder)
        else:
            storage = LazyTensorStorage(capacity)
        sampler = PrioritizedSampler(capacity, alpha=ALPHA, beta=BETA)
        self.buffer = TensorDictReplayBuffer(storage=storage, sampler=sampler, batch_size=256)

    def prepared(self, columns, start, n):
        part = {name: self.torch.from_numpy(column[start : start + n]) for name, column in columns.items()}
        batch = self.TensorDict(part, batch_size=[n])
        return batch if n > 1 else batch[0]

    def insert(self, columns):
        if columns.batch_dims:
            self.buffer.extend(columns)
        else:
            self.buffer.add(columns)

    def sample(self, n):
        batch = self.buffer.sample(n)
        return [batch["obs"], batch["next_obs"], batch["act"], batch["rew"]], batch["index"]

    def update(self, indexes, errors):
        self.buffer.update_priority(indexes, self.torch.from_numpy(errors))

    def checkpoint(self, path):
        self.buffer.dumps(path)


class TorchRlMemmap(TorchRl):
    """TorchRL with its storage in a mapped file."""

    def __init__(self, capacity, folder):
        super().__init__(capacity, folder, mapped=True)


class Sb3:
    """Stable-Baselines3's ReplayBuffer, which samples uniformly, so there are no priorities to update."""

    def __init__(self, capacity, folder):
        import numpy
        import torch
        from gymnasium import spaces
        from stable_baselines3.common.buffers import ReplayBuffer

        self.torch, self.np = torch, numpy
        self.version = f"Stable-Baselines3 {version('stable_baselines3')} (uniform)"
        space = spaces.Box(-1, 1, (WIDTH,), numpy.float32)
        self.buffer = ReplayBuffer(capacity, space, spaces.Discrete(3), device="cpu", handle_timeout_termination=False)

    def prepared(self, columns, start, n):
        return [{name: column[i : i + 1] for name, column in columns.items()} for i in range(start, start + n)]

    def insert(self, rows):
        for row in rows:
            self.buffer.add(row["obs"], row["next_obs"], row["act"], row["rew"], row["done"], [{}])

    def sample(self, n):
        batch = self.buffer.sample(n)
        return [batch.observations, batch.next_observations, batch.actions, batch.rewards], None

    def update(self, indexes, errors):
        pass

    def checkpoint(self, path):
        from stable_baselines3.common.save_util import save_to_pkl

        save_to_pkl(path, self.buffer)


PEERS = {"cpprb": Cpprb, "cpprb-shared": CpprbShared, "torchrl": TorchRl, "torchrl-memmap": TorchRlMemmap, "sb3": Sb3}


def version(package):
    from importlib.metadata import version

    return version(package)


def median(values):
    return sorted(values)[len(values) // 2]


class Bench:
    """A peer filled to its capacity, and the rows that it is measured by."""

    def __init__(self, args, folder):
        import numpy

        self.args, self.folder, self.np = args, folder, numpy
        self.columns = steps(numpy, 8192, args.seed)
        # The bytes that imports take are not the replay's, so a first small replay imports everything.
        PEERS[args.peer](256, folder)
        before = resident_bytes()
        self.peer = PEERS[args.peer](args.capacity, folder)
        self.peer.torch.set_num_threads(1)
        blocks = [self.peer.prepared(self.columns, start, 256) for start in range(0, 8192, 256)]
        began, n = time.perf_counter(), 0
        while n < args.capacity:
            self.peer.insert(blocks[n // 256 % len(blocks)])
            n += 256
        self.fill_rate = n / (time.perf_counter() - began)
        self.held = resident_bytes() - before
        rng = self.np.random.default_rng(args.seed)
        self.errors = rng.random(1 << 16).astype(self.np.float32)
        self.offset = 0

    def rate(self, work, n):
        """n times the calls of work() per second, as the median of the repeats that follow one to warm up."""
        rates = []
        for _ in range(self.args.repeats + 1):
            began, calls = time.perf_counter(), 0
            while calls == 0 or time.perf_counter() - began < self.args.seconds:
                work()
                calls += 1
            rates.append(calls * n / (time.perf_counter() - began))
        return median(rates[1:])

    def sample_and_update(self, n):
        _, indexes = self.peer.sample(n)
        self.offset = (self.offset + n) % ((1 << 16) - n)
        self.peer.update(indexes, self.errors[self.offset : self.offset + n])

    def row(self, name):
        if name.startswith("sample_"):
            n = int(name.removeprefix("sample_"))
            return self.rate(lambda: self.sample_and_update(n), n), {}
        if name.startswith("insert_"):
            n = int(name.removeprefix("insert_"))
            parts = [self.peer.prepared(self.columns, i * n, n) for i in range(min(8192 // n, 512))]
            self.turn = 0

            def insert():
                self.peer.insert(parts[self.turn % len(parts)])
                self.turn += 1

            return self.rate(insert, n), {"fill_rate": self.fill_rate}
        if name == "bytes":
            on_disk = sum(os.path.getsize(os.path.join(at, f)) for at, _, fs in os.walk(self.folder) for f in fs)
            held = on_disk if self.args.peer == "torchrl-memmap" else self.held
            return held / self.args.capacity, {"on_disk": self.args.peer == "torchrl-memmap"}
        if name == "latency":
            taken = []
            for _ in range(self.args.batches + 50):
                began = time.perf_counter()
                self.sample_and_update(256)
                taken.append((time.perf_counter() - began) * 1e3)
            taken = sorted(taken[50:])
            at = {key: taken[min(int(len(taken) * q), len(taken) - 1)] for key, q in
                  [("median_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999)]}
            return at["p99_ms"] / at["median_ms"], at
        if name == "checkpoint":
            began = time.perf_counter()
            self.peer.checkpoint(os.path.join(self.folder, "checkpoint"))
            return time.perf_counter() - began, {}
        raise SystemExit(f"no such row: {name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=sorted(PEERS), required=True)
    parser.add_argument("--capacity", type=int, default=100_000)
    parser.add_argument("--rows", default=",".join(ROWS), help="names of rows, separated by commas")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5, help="seconds per repeat")
    parser.add_argument("--batches", type=int, default=2000, help="batches whose latency is measured")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="folder for files, which are removed at the end")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="replay-peers-", dir=args.folder)
    try:
        bench = Bench(args, folder)
        units = {"bytes": "bytes/transition", "checkpoint": "s", "latency": "p99/median"}
        for name in args.rows.split(","):
            value, details = bench.row(name)
            line = {"peer": bench.peer.version, "row": name, "capacity": args.capacity, "value": value,
                    "unit": units.get(name, "transitions/s"), "threads": 1, **details}
            print(json.dumps(line), flush=True)
    except ImportError as error:
        print(json.dumps({"peer": args.peer, "skipped": str(error)}), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
