"""The peer of `tools/bench training`: a conformer CTC in PyTorch as one writes it, in one file.

Same network as the recipe in tools/bench.d/training: depthwise-striding subsampling by 4, six blocks of 160 with
rotary attention, LayerNorm in the convolution module, an intermediate CTC after block 3, AdamW, a moving average of
the weights, SpecAugment; waves through soundfile, fbank through kaldi-native-fbank, one DataLoader worker. bfloat16
autocast on CPUs that compute it, as `earshot train` does, else float. Prints one JSON line.
"""
import argparse
import json
import math
import os
import random
import time

import kaldi_native_fbank as knf
import numpy as np
import soundfile
import torch
from torch import nn
from torch.nn import functional as F

DIM, HEADS, HIDDEN, LAYERS, KERNEL, CHANNELS, MELS = 160, 4, 640, 6, 15, 32, 80


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class FeedForward(nn.Sequential):
    def __init__(self):
        super().__init__(nn.LayerNorm(DIM), nn.Linear(DIM, HIDDEN), nn.SiLU(), nn.Dropout(0.1), nn.Linear(HIDDEN, DIM),
                         nn.Dropout(0.1))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(DIM), nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x, cos, sin, mask):
        n, t, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).view(n, t, 3, HEADS, DIM // HEADS).permute(2, 0, 3, 1, 4)
        cos, sin = cos.to(q.dtype), sin.to(q.dtype)
        y = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, attn_mask=mask)
        return self.dropout(self.out(y.transpose(1, 2).flatten(2)))


class Convolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.expand = nn.LayerNorm(DIM), nn.Linear(DIM, 2 * DIM)
        self.depthwise = nn.Conv1d(DIM, DIM, KERNEL, padding=KERNEL // 2, groups=DIM)
        self.depthwise_norm, self.out, self.dropout = nn.LayerNorm(DIM), nn.Linear(DIM, DIM), nn.Dropout(0.1)

    def forward(self, x, valid):
        y = F.glu(self.expand(self.norm(x)), -1) * valid
        y = self.depthwise(y.transpose(1, 2)).transpose(1, 2)
        return self.dropout(self.out(F.silu(self.depthwise_norm(y))))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.attention = FeedForward(), Attention()
        self.convolution, self.second = Convolution(), FeedForward()
        self.norm = nn.LayerNorm(DIM)

    def forward(self, x, cos, sin, mask, valid):
        x = x + 0.5 * self.first(x)
        x = x + self.attention(x, cos, sin, mask)
        x = x + self.convolution(x, valid)
        return self.norm(x + 0.5 * self.second(x))


class Network(nn.Module):
    def __init__(self, vocab):
        super().__init__()
        self.first = nn.Conv2d(1, CHANNELS, 3, 2, (0, 1))
        self.depthwise = nn.Conv2d(CHANNELS, CHANNELS, 3, 2, (0, 1), groups=CHANNELS)
        self.pointwise = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.project = nn.Linear(CHANNELS * MELS // 4, DIM)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.head = nn.Linear(DIM, vocab)

    def forward(self, features, lens):
        features = F.pad(features, (0, 0, 0, 6))
        x = torch.relu(self.first(features.unsqueeze(1)))
        x = torch.relu(self.pointwise(self.depthwise(x)))
        x = F.dropout(self.project(x.transpose(1, 2).flatten(2)), 0.1, self.training)
        lens = torch.clamp((lens + 3) // 4, max=x.size(1))
        t = torch.arange(x.size(1))
        angles = t[:, None] * 10000.0 ** (-torch.arange(0, DIM // HEADS, 2) / (DIM // HEADS))
        valid = t[None] < lens[:, None]
        outputs = []
        for i, block in enumerate(self.blocks):
            x = block(x, angles.cos(), angles.sin(), valid[:, None, None], valid[..., None].to(x.dtype))
            if i in (2, LAYERS - 1):
                outputs.append(F.log_softmax(self.head(x).float(), -1))
        return outputs, lens


class Corpus(torch.utils.data.Dataset):
    def __init__(self, manifest):
        folder = os.path.dirname(os.path.abspath(manifest))
        self.items = [json.loads(line) for line in open(manifest, encoding="utf-8")]
        for item in self.items:
            item["path"] = os.path.join(folder, item["audio_filepath"])
        characters = sorted({c for item in self.items for c in item["text"]})
        self.ids = {c: i + 1 for i, c in enumerate(characters)}
        self.options = knf.FbankOptions()
        self.options.frame_opts.dither = 0
        self.options.frame_opts.snip_edges = False
        self.options.mel_opts.num_bins = MELS

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        item = self.items[index]
        samples, rate = soundfile.read(item["path"], dtype="float32")
        fbank = knf.OnlineFbank(self.options)
        fbank.accept_waveform(rate, (samples * 32768).tolist())
        fbank.input_finished()
        features = np.stack([fbank.get_frame(i) for i in range(fbank.num_frames_ready)])
        features = (features - 12) / 4
        for _ in range(2):
            width = random.randint(0, 15)
            start = random.randint(0, MELS - width)
            features[:, start:start + width] = 0
            width = random.randint(0, min(15, len(features) // 10))
            start = random.randint(0, len(features) - width)
            features[start:start + width] = 0
        return torch.from_numpy(features), [self.ids[c] for c in item["text"]], item["duration"]


def batches(corpus, seed):
    """Buckets by duration, 4800 padded frames a batch."""
    order = sorted(range(len(corpus)), key=lambda i: corpus.items[i]["duration"])
    size = math.ceil(len(order) / 8)
    made, draw = [], random.Random(seed)
    for start in range(0, len(order), size):
        bucket = order[start:start + size]
        most = max(1, int(4800 / (corpus.items[bucket[-1]]["duration"] * 100)))
        draw.shuffle(bucket)
        made += [bucket[i:i + most] for i in range(0, len(bucket), most)]
    draw.shuffle(made)
    return made


def collate(examples):
    features = nn.utils.rnn.pad_sequence([e[0] for e in examples], batch_first=True)
    lens = torch.tensor([len(e[0]) for e in examples])
    tokens = torch.tensor([token for e in examples for token in e[1]])
    return features, lens, tokens, torch.tensor([len(e[1]) for e in examples]), sum(e[2] for e in examples)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(os.cpu_count())
    corpus = Corpus(arguments.manifest)
    network = Network(len(corpus.ids) + 1).train()
    average = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    bf16 = "avx512_bf16" in open("/proc/cpuinfo", encoding="utf-8").read()
    for epoch in range(arguments.epochs):
        loader = torch.utils.data.DataLoader(corpus, batch_sampler=batches(corpus, epoch), num_workers=1,
                                             prefetch_factor=4, collate_fn=collate)
        start, audio = time.time(), 0.0
        for features, lens, tokens, token_lens, duration in loader:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                outputs, out_lens = network(features, lens)
            losses = [F.ctc_loss(o.transpose(0, 1), tokens, out_lens, token_lens, reduction="sum", zero_infinity=True)
                      for o in outputs]
            loss = (0.3 * losses[0] + 0.7 * losses[1]) / len(lens)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(list(average.values()), list(network.parameters()), 0.001)
            audio += duration
        rate = audio / (time.time() - start)
    print(json.dumps({"times_real_time": rate, "precision": "bfloat16" if bf16 else "float",
                      "parameters": sum(p.numel() for p in network.parameters())}))


if __name__ == "__main__":
    main()
