"""The peers of `tools/bench encoder`: torchaudio's Conformer as a user runs it, and the same network in onnxruntime.

    encoder_peer.py                   reads a JSON command a line, answers with a JSON line, until the end
    encoder_peer.py --memory JSON     {"extra_bytes": beyond weights, input and output} of one command

A command {"contender": "torchaudio" | "onnxruntime", "type": "fp32" | "bf16" | "int8", "seconds": S, "threads": N,
"repeats": R} is answered by {"seconds": median of R calls, "cpu_seconds": the same of all threads together}, or by
{"error": ...}. The input is S seconds of 80 features at 10 ms, batch 1; the weights are random. Two convolutions with
stride 2 of 64 channels and a linear layer subsample by 4; 12 layers of 256 with 4 heads, feed-forward of 1024 and a
kernel of 31 follow.

torchaudio computes float or, converted as a whole, bfloat16; onnxruntime int8 (or fp32): weights of linear layers
quantised by quantize_dynamic, convolutions in float, without the padding mask, which a single utterance does not need.
No call may take more address space than 16 GiB. {"about": true} tells versions, and how far the outputs are apart.
"""
import argparse
import ctypes
import json
import os
import pathlib
import resource
import statistics
import sys
import tempfile
import time
import warnings

import torch
import torchaudio
from torch import nn

MELS, CHANNELS, DIM, HEADS, FEED_FORWARD, LAYERS, KERNEL = 80, 64, 256, 4, 1024, 12, 31
MEMORY_LIMIT = 16 << 30
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Subsampling(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolutions = nn.Sequential(nn.Conv2d(1, CHANNELS, 3, 2), nn.ReLU(), nn.Conv2d(CHANNELS, CHANNELS, 3, 2),
                                          nn.ReLU())
        self.linear = nn.Linear(CHANNELS * (((MELS - 1) // 2 - 1) // 2), DIM)

    def forward(self, features):
        """(N, T, C) -> (N, T', D)"""
        x = self.convolutions(features.unsqueeze(1))  # (N, channels, T', C')
        return self.linear(x.transpose(1, 2).flatten(2))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.subsampling = Subsampling()
        self.encoder = torchaudio.models.Conformer(DIM, HEADS, FEED_FORWARD, LAYERS, KERNEL)

    def forward(self, features):
        x = self.subsampling(features)
        return self.encoder(x, torch.full((len(x),), x.shape[1]))[0]


class Attention(nn.Module):
    """nn.MultiheadAttention with its weights, of which the exporter would keep the length of its example."""

    def __init__(self, of):
        super().__init__()
        self.of = of

    def forward(self, query, key, value, key_padding_mask, need_weights):
        qkv = nn.functional.linear(query.transpose(0, 1), self.of.in_proj_weight, self.of.in_proj_bias)  # (N, T', 3D)
        q, k, v = (x.unflatten(2, (HEADS, DIM // HEADS)).transpose(1, 2) for x in qkv.chunk(3, 2))
        x = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.of.out_proj(x.transpose(1, 2).flatten(2)).transpose(0, 1), None


class Exported(Network):
    def __init__(self):
        super().__init__()
        for layer in self.encoder.conformer_layers:
            layer.self_attn = Attention(layer.self_attn)

    def forward(self, features):
        x = self.subsampling(features).transpose(0, 1)
        for layer in self.encoder.conformer_layers:
            x = layer(x, None)
        return x.transpose(0, 1)


def features(seconds):
    return torch.randn(1, int(seconds * 100), MELS, generator=torch.Generator().manual_seed(2))


def onnx_file(folder, kind):
    path = folder / f"{kind}.onnx"
    if not path.exists():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(Exported().eval(), (features(4),), str(folder / "fp32.onnx"), dynamo=False,
                              opset_version=17, input_names=["features"], output_names=["out"],
                              dynamic_axes={"features": {1: "frames"}, "out": {1: "encoder_frames"}})
        if kind == "int8":
            from onnxruntime.quantization import QuantType, quantize_dynamic
            quantize_dynamic(folder / "fp32.onnx", path, op_types_to_quantize=["MatMul", "Gemm"],
                             weight_type=QuantType.QInt8)
    return path


class Peer:
    def __init__(self, threads):
        self.folder = tempfile.TemporaryDirectory()
        self.threads = threads
        torch.set_num_threads(threads)
        self.networks = {}

    def network(self, contender, kind):
        """A function of the features."""
        if (contender, kind) not in self.networks:
            if contender == "torchaudio":
                model, dtype = Network().eval().to(TYPES[kind]), TYPES[kind]
                self.networks[contender, kind] = lambda x: model(x.to(dtype))
            elif contender == "onnxruntime":
                import onnxruntime
                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
                # Threads that wait for work between calls would slow whoever has its turn then.
                options.add_session_config_entry("session.force_spinning_stop", "1")
                session = onnxruntime.InferenceSession(str(onnx_file(pathlib.Path(self.folder.name), kind)), options,
                                                       providers=["CPUExecutionProvider"])
                self.networks[contender, kind] = lambda x: torch.from_numpy(
                    session.run(None, {"features": x.numpy()})[0])
            else:
                raise ValueError(f"no contender '{contender}'")
        return self.networks[contender, kind]

    def answer(self, command):
        if command.get("about"):
            return self.about()
        network, x = self.network(command["contender"], command["type"]), features(command["seconds"])
        network(features(2))
        wall, cpu = [], []
        for _ in range(command.get("repeats", 1)):
            start, start_cpu = time.perf_counter(), time.process_time()
            network(x)
            wall.append(time.perf_counter() - start)
            cpu.append(time.process_time() - start_cpu)
        return {"seconds": statistics.median(wall), "cpu_seconds": statistics.median(cpu)}

    def about(self):
        """Versions, and how far the contenders' outputs are from torchaudio's in float, by the root mean square."""
        import onnxruntime
        x = features(8)
        expected = self.network("torchaudio", "fp32")(x)
        away = {}
        for contender, kind in (("torchaudio", "bf16"), ("onnxruntime", "fp32"), ("onnxruntime", "int8")):
            out = self.network(contender, kind)(x).float()
            away[f"{contender} {kind}"] = ((out - expected).norm() / expected.norm()).item()
        return {"torchaudio": torchaudio.__version__, "onnxruntime": onnxruntime.__version__, "away": away}


def resident(field):
    with open("/proc/self/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


def memory(peer, command):
    """What one call takes beyond what is there after a call with two seconds, and beyond its input and output."""
    network = peer.network(command["contender"], command["type"])
    network(features(2))
    x = features(command["seconds"])
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w", encoding="utf-8") as reset:
        reset.write("5")  # the peak starts again from here
    before = resident("VmRSS")
    output = network(x)
    return max(0, resident("VmHWM") - before - output.nbytes)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--memory", metavar="JSON")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    peer = Peer(arguments.threads)
    # What libraries print goes to stderr: a line of stdout is an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with torch.inference_mode():
        for line in [arguments.memory] if arguments.memory else sys.stdin:
            try:
                command = json.loads(line)
                answer = {"extra_bytes": memory(peer, command)} if arguments.memory else peer.answer(command)
            except Exception as error:  # pylint: disable=broad-except
                # The end of a long message names the size that could not be had.
                answer = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[-1][-150:]}"}
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
