"""The networks of plimsoll as PyTorch modules: the same action values from the same weights.

    import plimsoll_torch
    network = plimsoll_torch.load("weights.safetensors")           # evaluation mode, 32-bit
    values = network(observation)                                  # (batch, actions)
    best = [network.facts["actions"][i] for i in values.argmax(1)]

In a market an observation is a dict of tensors, (batch, rows, columns) each; `network.facts["views"]` has the names, the
rows and the order of the columns: structure (48, 8), tactical (60, 7), regime (20, 8), lvn (1, 5) and account (1, 8). Rows
are in the order of time, the newest last; those of regime are six bars apart. `plimsoll features` writes the rows of the
first four, and `network.facts["scaling"]` says how the numbers of the account are scaled. In CartPole an observation is a
tensor, (batch, 4).

    python3 plimsoll_torch.py weights.safetensors                  # prints what the file says of itself

For other runtimes: torch.onnx.export(network, (observation,), ...) and torch.jit.trace(network, (observation,), strict=False).
This file needs PyTorch 2 and nothing else.
"""
import json
import math
import struct
import sys

import torch
import torch.nn.functional as F
from torch import nn

FORMAT = "plimsoll weights 1"
FULL = dict(
    structure_model=128, structure_heads=4, structure_feed_forward=512, structure_head=64,
    tactical_model=128, tactical_momentum=32, tactical_lstm=128, tactical_heads=4, tactical_head=128,
    regime_transition=32, regime_lstm=32, lvn_hidden=16, dropout=0.2,
)  # fmt: skip
COMPACT = dict(
    structure_model=32, structure_heads=2, structure_feed_forward=32, structure_head=32,
    tactical_model=16, tactical_momentum=8, tactical_lstm=12, tactical_heads=2, tactical_head=32,
    regime_transition=8, regime_lstm=16, lvn_hidden=16, dropout=0.0,
)  # fmt: skip
PRESETS = {"full": FULL, "compact": COMPACT}
SHAPES = {"structure": (48, 8), "tactical": (60, 7), "regime": (20, 8), "lvn": (5,)}
SCALES = (5, 15, 30)


def positive(x):
    return F.softplus(x) + 1e-6


def head(width, hidden, out, activation):
    return nn.Sequential(nn.Linear(width, hidden), nn.LayerNorm(hidden), activation(), nn.Linear(hidden, out))


def pool_over_time(score, h):
    return (score(h).softmax(1) * h).sum(1)


def sinusoids(times, width):
    t = torch.arange(times, dtype=torch.float64)[:, None]
    i = torch.arange(width)
    angle = t / 10_000 ** ((i - i % 2) / width)
    return torch.where(i % 2 == 0, angle.sin(), angle.cos()).float()


class Structure(nn.Module):
    """48 x 8 -> 64."""

    def __init__(self, w):
        super().__init__()
        width = w["structure_model"]
        self.project = nn.Linear(8, width)
        self.register_buffer("positions", sinusoids(48, width), persistent=False)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, w["structure_heads"], w["structure_feed_forward"], w["dropout"], "gelu",
                batch_first=True, norm_first=True,
            )
            for _ in range(3)
        )  # fmt: skip
        for block in self.blocks:
            block.self_attn.dropout = 0.0  # probabilities are never dropped
        self.norm = nn.LayerNorm(width)
        self.pool = nn.Linear(width, 1)
        self.mean = head(width, w["structure_head"], 64, nn.GELU)
        self.spread = head(width, w["structure_head"], 64, nn.GELU)

    def forward(self, x):
        h = self.project(x) + self.positions
        for block in self.blocks:
            h = block(h)
        h = pool_over_time(self.pool, self.norm(h))
        return self.mean(h), positive(self.spread(h))


class ScaleAttention(nn.Module):
    """Attention of every time to the means over stretches of `scale` times, mixed in through a gate."""

    def __init__(self, width, heads, scale):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.gate = nn.Linear(2 * width, width)
        self.scale = scale

    def forward(self, h):
        means = F.avg_pool1d(h.transpose(1, 2), self.scale, self.scale).transpose(1, 2)
        y, _ = self.attention(h, means, means, need_weights=False)
        g = torch.sigmoid(self.gate(torch.cat([h, y], -1)))
        return g * y + (1 - g) * h


class Tactical(nn.Module):
    """60 x 7 -> 48."""

    def __init__(self, w):
        super().__init__()
        width, wide = w["tactical_model"], 2 * w["tactical_lstm"]
        self.project = nn.Sequential(nn.Linear(7, width), nn.LayerNorm(width), nn.ReLU())
        self.momentum = nn.Conv1d(7, w["tactical_momentum"], 3, padding=1)
        self.positions = nn.Parameter(torch.randn(60, width) * 0.02)
        self.lstm = nn.ModuleList(
            nn.LSTM(width if i == 0 else wide, w["tactical_lstm"], batch_first=True, bidirectional=True)
            for i in range(3)
        )
        self.norm = nn.ModuleList(nn.LayerNorm(wide) for _ in range(3))
        self.scales = nn.ModuleList(ScaleAttention(wide, w["tactical_heads"], scale) for scale in SCALES)
        self.mix = nn.Sequential(nn.Linear(3 * wide, wide), nn.LayerNorm(wide), nn.ReLU())
        self.pool = nn.Linear(wide, 1)
        self.mean = head(wide, w["tactical_head"], 48, nn.ReLU)
        self.spread = head(wide, w["tactical_head"], 48, nn.ReLU)

    def forward(self, x):
        momentum = self.momentum(x.transpose(1, 2)).norm(dim=1).softmax(1).unsqueeze(-1)
        h = self.project(x) + momentum * self.positions
        for i, (lstm, norm) in enumerate(zip(self.lstm, self.norm)):
            y = norm(lstm(h)[0])
            h = y if i == 0 else y + h
        h = self.mix(torch.cat([scale(h) for scale in self.scales], -1))
        h = pool_over_time(self.pool, h)
        return self.mean(h), positive(self.spread(h))


class Regime(nn.Module):
    """20 x 8 -> 16."""

    def __init__(self, w):
        super().__init__()
        width, transition = w["regime_lstm"], w["regime_transition"]
        self.importance = nn.Linear(8, 8)
        self.transition = nn.Sequential(nn.Linear(16, transition), nn.ReLU(), nn.Linear(transition, transition))
        self.lstm = nn.LSTM(8 + transition, width, 2, batch_first=True)
        self.prototypes = nn.Parameter(torch.empty(16, width).uniform_(-0.5, 0.5))
        self.mean, self.spread = nn.Linear(width + 16, 16), nn.Linear(width + 16, 16)

    def forward(self, x):
        current = torch.sigmoid(self.importance(x)) * x
        previous = torch.cat([current[:, :1], current[:, :-1]], 1)
        change = self.transition(torch.cat([previous, current], -1))
        h = self.lstm(torch.cat([current, change], -1))[0][:, -1]
        distance = (h[:, None] - self.prototypes).square().sum(-1)
        h = torch.cat([h, (-distance / math.sqrt(h.shape[1])).softmax(1)], -1)
        return self.mean(h), positive(self.spread(h))


class Lvn(nn.Module):
    """5 -> 8."""

    def __init__(self, w):
        super().__init__()
        self.hidden, self.norm = nn.Linear(5, w["lvn_hidden"]), nn.LayerNorm(w["lvn_hidden"])
        self.mean, self.spread = nn.Linear(w["lvn_hidden"], 8), nn.Linear(w["lvn_hidden"], 8)

    def forward(self, x):
        h = self.norm(self.hidden(x)).relu()
        return self.mean(h), positive(self.spread(h))


class Fused(nn.Module):
    """The four embedders: 136 means, and the mean spread of each."""

    def __init__(self, preset):
        super().__init__()
        widths = PRESETS[preset]
        self.structure, self.tactical = Structure(widths), Tactical(widths)
        self.regime, self.lvn = Regime(widths), Lvn(widths)

    def embed(self, views):
        return {part: getattr(self, part)(views[part]) for part in SHAPES}

    def forward(self, views):
        embedded = self.embed(views).values()
        return torch.cat([m for m, _ in embedded], 1), torch.stack([s.mean(1) for _, s in embedded], 1)


class Layers(nn.ModuleDict):
    """Two linear layers, named 0 and 1, with a ReLU between them."""

    def __init__(self, inputs, hidden, outputs):
        super().__init__({"0": nn.Linear(inputs, hidden), "1": nn.Linear(hidden, outputs)})

    def forward(self, x):
        return self["1"](self["0"](x).relu())


class ActionValues(nn.Module):
    """An observation -> a value for each action: a body, then heads (dueling: Q = V + A - mean A).

    `facts` says what the network is: environment, preset, heads, hidden, n_actions, local_width.
    """

    def __init__(self, facts):
        super().__init__()
        self.facts = facts
        hidden, n_actions, local = (int(facts[name]) for name in ("hidden", "n_actions", "local_width"))
        self.is_market = facts["environment"] == "market"
        if self.is_market:
            self.embedders = Fused(facts["preset"])
            inputs = 136 + 4 + local
        else:
            self.body = Layers(local, hidden, hidden)
            inputs = hidden
        self.is_dueling = facts["heads"] == "dueling"
        if self.is_dueling:
            self.value, self.advantage = Layers(inputs, hidden, 1), Layers(inputs, hidden, n_actions)
        else:
            self.values = Layers(inputs, hidden, n_actions) if self.is_market else nn.Linear(inputs, n_actions)

    def forward(self, observation):
        if self.is_market:
            views = {name: observation[name] for name in SHAPES}
            views["lvn"] = views["lvn"].flatten(1)
            x = torch.cat([*self.embedders(views), observation["account"].flatten(1)], 1)
        else:
            x = self.body(observation).relu()
        if not self.is_dueling:
            return self.values(x)
        a = self.advantage(x)
        return self.value(x) + a - a.mean(1, keepdim=True)


def read(path):
    """The facts and the tensors of a file of weights. Facts that are lists or objects are parsed."""
    with open(path, "rb") as file:
        (n_bytes,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(n_bytes))
        data = bytearray(file.read())
    facts = {k: json.loads(v) if v[:1] in "[{" else v for k, v in header.pop("__metadata__", {}).items()}
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        if entry["dtype"] != "F32":
            raise ValueError(f"{path}: {name} is {entry['dtype']}, and weights are F32")
        n = (end - begin) // 4
        numbers = torch.frombuffer(data, dtype=torch.float32, count=n, offset=begin) if n else torch.empty(0)
        tensors[name] = numbers.clone().view(entry["shape"])
    return facts, tensors


def load(path):
    """The network of a file of weights, in evaluation mode."""
    facts, tensors = read(path)
    if facts.get("format") != FORMAT:
        raise ValueError(f"{path}: is '{facts.get('format')}', and this module reads '{FORMAT}'")
    network = ActionValues(facts)
    network.load_state_dict(tensors, strict=True)
    return network.eval()


if __name__ == "__main__":
    for path in sys.argv[1:]:
        facts, tensors = read(path)
        load(path)
        print(json.dumps({"file": path, "parameters": sum(x.numel() for x in tensors.values()), **facts}, indent=1))
