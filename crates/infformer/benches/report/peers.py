"""What people would use instead, one thread: prints one line of JSON a measurement.

The paper's algorithm as its equations say it (Martins et al. 2022, equations 3 to 9, and section 3.2 for the unbounded
memory), a GRU and an LSTM of equal width, in PyTorch and in onnxruntime.
"""

import json
import math
import os
import sys
import tempfile
import time
import warnings

import torch

try:
    import onnxruntime
except ImportError:
    onnxruntime = None
    print("onnxruntime is not installed: its rows are missing", file=sys.stderr)

warnings.filterwarnings("ignore")

torch.set_num_threads(1)
WIDTH, CAPACITY, CHUNK, HEADS, SAMPLES, TAU = 64, 64, 16, 4, 512, 0.75
AGENTS = (1, 64, 1024)


def best(run, budget=1.0):
    run()
    begun, least = time.perf_counter(), math.inf
    while time.perf_counter() - begun < budget:
        started = time.perf_counter()
        run()
        least = min(least, time.perf_counter() - started)
    return least


def report(name, unit, agents, seconds):
    print(json.dumps({"name": name, "unit": unit, "agents": agents, "microseconds": seconds * 1e6}), flush=True)


class Paper(torch.nn.Module):
    """Write a chunk: sample the squeezed past, append the chunk, ridge regression. Read: a Gaussian a head."""

    def __init__(self):
        super().__init__()
        centres = torch.linspace(0, 1, CAPACITY // 2)
        self.mu = torch.cat([centres, centres])
        self.sigma = torch.cat([torch.full((CAPACITY // 2,), s) for s in (0.01, 0.05)])
        past = torch.linspace(0, TAU, SAMPLES)
        new = TAU + (1 - TAU) * (torch.arange(CHUNK) + 1) / CHUNK
        design = self.psi(torch.cat([past, new])).double()
        gram = design.T @ design + torch.eye(CAPACITY).double()
        self.fit = torch.linalg.solve(gram, design.T).float()
        self.samples = self.psi(past / TAU)
        self.project = torch.nn.ModuleList(torch.nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.moments = torch.nn.Linear(CAPACITY, 2, bias=False)

    def psi(self, t):
        z = (t[:, None] - self.mu) / self.sigma
        return torch.exp(-0.5 * z * z) / (math.sqrt(2 * math.pi) * self.sigma)

    def write(self, coefficients, chunk):
        signal = torch.matmul(self.samples, coefficients)
        return torch.matmul(self.fit, torch.cat([signal, chunk], 1))

    def read(self, coefficients, query):
        agents = query.shape[0]
        to_query, to_key, to_value, to_output = self.project
        heads = lambda x: x.view(agents, -1, HEADS, WIDTH // HEADS).transpose(1, 2)
        q, k, v = heads(to_query(query)), heads(to_key(coefficients)), heads(to_value(coefficients))
        scores = q @ k.transpose(2, 3) / math.sqrt(WIDTH // HEADS)
        mu, variance = self.moments(scores).split(1, -1)
        mu, variance = torch.sigmoid(mu), torch.nn.functional.softplus(variance) + 1e-4
        spread = variance + self.sigma**2
        r = torch.exp(-0.5 * (mu - self.mu) ** 2 / spread) / torch.sqrt(2 * math.pi * spread)
        return to_output((r @ v).transpose(1, 2).reshape(agents, 1, WIDTH))


def paper():
    module = Paper()
    for agents in AGENTS:
        coefficients = torch.randn(agents, CAPACITY, WIDTH)
        chunk, query = torch.randn(agents, CHUNK, WIDTH), torch.randn(agents, 1, WIDTH)
        seconds = best(lambda: module.read(module.write(coefficients, chunk), query))
        report("the paper, plainly, PyTorch", "write + read", agents, seconds)


def folded():
    """What one would write by hand: one product for the write, projections folded into the query for the read."""
    write_map = torch.randn(CAPACITY, CAPACITY + CHUNK) / 9
    mu, sigma = torch.linspace(0, 1, CAPACITY), 0.02
    weights = [torch.randn(HEADS, WIDTH, WIDTH) / 8 for _ in range(2)]
    moments = torch.randn(CAPACITY, 2) / 8

    def run(coefficients, chunk, query):
        coefficients = torch.matmul(write_map, torch.cat([coefficients, chunk], 1))
        keys = torch.einsum("ae,hef->ahf", query, weights[0])
        mean, variance = ((keys @ coefficients.transpose(1, 2)) @ moments).split(1, -1)
        spread = torch.nn.functional.softplus(variance) + sigma**2
        r = torch.exp(-0.5 * (torch.sigmoid(mean) - mu) ** 2 / spread) / torch.sqrt(2 * math.pi * spread)
        return torch.einsum("ahf,hfe->ae", r @ coefficients, weights[1])

    for agents in AGENTS:
        coefficients = torch.randn(agents, CAPACITY, WIDTH)
        chunk, query = torch.randn(agents, CHUNK, WIDTH), torch.randn(agents, WIDTH)
        report("one product and a folded read, PyTorch", "write + read", agents, best(lambda: run(coefficients, chunk, query)))


def recurrent(name, cell):
    for agents in AGENTS:
        module = cell(WIDTH, WIDTH)
        x = torch.randn(1, agents, WIDTH)
        h = torch.zeros(1, agents, WIDTH)
        state = (h, h.clone()) if name == "LSTM" else h
        report(f"{name}, PyTorch", "tick", agents, best(lambda: module(x, state)))
        if onnxruntime is None:
            continue
        path = os.path.join(tempfile.mkdtemp(), "cell.onnx")
        try:
            torch.onnx.export(module, (x, state), path, dynamo=False)
        except Exception as error:
            print(f"{name} cannot be exported to ONNX here: {error}", file=sys.stderr)
            continue
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        values = [x, *state] if name == "LSTM" else [x, h]
        feed = {node.name: value.numpy() for node, value in zip(session.get_inputs(), values)}
        report(f"{name}, onnxruntime", "tick", agents, best(lambda: session.run(None, feed)))


with torch.inference_mode():
    paper()
    folded()
    recurrent("GRU", torch.nn.GRU)
    recurrent("LSTM", torch.nn.LSTM)
