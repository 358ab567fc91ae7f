"""The peers of `tools/bench attention`: what a user of PyTorch computes windowed attention with.

    attention_peer.py [--device cpu|cuda]           reads a JSON command a line, answers with a JSON line, until the end
    attention_peer.py --memory JSON                 {"extra_bytes": beyond inputs and output} of one command

A command {"contender": NAME, "frames": T, "type": "fp32", "threads": 1, "repeats": R, "pattern": TEXT} is answered by
{"seconds": of one of R calls, "cpu_seconds": the same of all threads together, "variant": ...}, or by {"error": ...}.
Batch 1, 4 heads of 64, a window of 128 frames before and 128 after, forward. The contenders:

    full        scaled_dot_product_attention over all frames
    blocks      the same over a batch of query blocks with their keys and a mask, in the fastest of several block sizes,
                memory layouts and forms of the mask ("blocks:128,heads,shared" is one of them)
    flex        compiled FlexAttention; its block mask is made from the indices, since create_block_mask evaluates
                T x T. "flex:64" has blocks of 64; without a size the fastest
    longformer  sliding chunks as Longformer (Beltagy et al. 2020) computes them, with the relative positions of
                Transformer-XL as in NeMo's local attention: (q + u) k + (q + v) p, all of it but the projections
    natten      NATTEN's fused kernel (CUDA)
    stock       the mask of any pattern by scaled_dot_product_attention: a dense mask (at most 8192 frames), or for each
                block of queries the keys gathered, whichever is faster
    gemm, copy  {"flops"} of a matrix product of the shape that attention has; {"bytes_per_second"} of a copy

{"about": true} tells {"torch": version, "device": ...}. {"check": true} compares every contender with masked attention
at 1024 frames: {"errors": {name: largest difference}}.
"""
import argparse
import json
import math
import os
import statistics
import sys
import time

import torch
from torch.nn import functional as F

HEADS, DIM, WINDOW = 4, 64, 128
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BLOCK_SIZES = (64, 128, 256)
# A dense mask of more frames than that takes 1 GB and more.
DENSE_FRAMES = 8192
# The form of a contender is chosen at this length at most, and used at all greater ones.
CHOICE_FRAMES = 16384

attend = F.scaled_dot_product_attention


def inputs(frames, dtype, device, layout="heads"):
    """q, k, v (1, H, T, d), stored as (H, T, d), or as (T, H, d) like the output of a linear layer."""
    generator = torch.Generator(device=device).manual_seed(1)
    out = []
    for _ in range(3):
        x = torch.empty(1, HEADS, frames, DIM, dtype=dtype, device=device).normal_(generator=generator)
        out.append(x if layout == "heads" else x.transpose(1, 2).contiguous().transpose(1, 2))
    return out


# Patterns: as src/attention/pattern.h writes them. A row of the keys is a frame, or stands behind the frames: the cells
# of a hierarchy level by level, the memory vectors chunk by chunk.


def parse(pattern):
    """[(kind, {name: value}), ...]"""
    terms = []
    for text in pattern.split("+"):
        kind, _, inside = text.strip().rstrip(")").partition("(")
        values = {}
        for part in filter(None, inside.split(",")):
            name, _, value = part.partition("=")
            values[name.strip()] = [int(v) for v in value.split(";")] if name.strip() == "offsets" else int(value)
        terms.append((kind, values))
    return terms


def past_seams(t, start):
    """Where frames at full rate, and the cells of each level, begin for a chunk; all seams on the next level's grid."""
    seams, seam, size = [], start, 1
    for level in range(t["levels"] + 1):
        coarser = size * t["pool"] if level < t["levels"] else size
        seam = ((seam - t["left"] * size) // coarser * coarser).clamp(min=0)
        seams.append(seam)
        size = coarser
    return seams


def behind(terms, frames):
    """What stands behind the frames: (pool, rows) for each level, (0, rows) for memory."""
    out = []
    for kind, t in terms:
        if kind == "hierarchical":
            out += [(t["pool"] ** level, frames // t["pool"] ** level) for level in range(1, t["levels"] + 1)]
        if kind == "memory":
            out.append((0, -(-frames // t["chunk"]) * t["slots"]))
    return out


def seen(terms, frames, i):
    """For queries i, what each term lets them see: [(first row, rows there, low, high, step, blocks)], where a query
    sees first row + r for low <= r <= high with r % step == 0 and, if blocks is (B, distances), r in these blocks."""
    out, row = [], frames
    for kind, t in terms:
        start = i // t["chunk"] * t["chunk"] if "chunk" in t else i
        if kind == "full":
            out.append((0, frames, i * 0, i * 0 + frames, 1, None))
        elif kind == "sliding":
            out.append((0, frames, i - t["left"], i + t["right"], 1, None))
        elif kind == "local":
            out.append((0, frames, start - t["left"], start + t["chunk"] - 1 + t["lookahead"], 1, None))
        elif kind == "strided":
            out.append((0, frames, i - t["reach"], i + t.get("lookahead", 0), t["every"], None))
        elif kind == "blockwise":
            size, distances = t["block"], [0, *t["offsets"]]
            first = i // size * size
            out.append((0, frames, first + min(distances) * size, first + (max(distances) + 1) * size - 1, 1,
                        (size, torch.tensor(distances))))
        elif kind == "hierarchical":
            seams = past_seams(t, start)
            out.append((0, frames, seams[0], start + t["chunk"] - 1 + t["lookahead"], 1, None))
            for level in range(1, t["levels"] + 1):
                cell = t["pool"] ** level
                out.append((row, frames // cell, seams[level] // cell, seams[level - 1] // cell - 1, 1, None))
                row += frames // cell
        elif kind == "memory":
            first = i // t["chunk"] * t["slots"]
            count = -(-frames // t["chunk"]) * t["slots"]
            out.append((row, count, first, first + t["slots"] - 1, 1, None))
            row += count
        else:
            raise ValueError(f"no stock form of '{kind}'")
    return out


def block_keys(terms, frames, i):
    """The rows that any of the queries i sees, ascending, and which sees which: (rows,), (queries, rows) bool."""
    rows, views = [], []
    for first_row, count, low, high, step, blocks_of in seen(terms, frames, i):
        r = torch.arange(max(0, int(low.min())), min(count - 1, int(high.max())) + 1)
        r = r[r % step == 0]
        see = (r >= low[:, None]) & (r <= high[:, None])
        if blocks_of:
            see &= torch.isin(r // blocks_of[0] - i[:, None] // blocks_of[0], blocks_of[1])
        rows.append(first_row + r)
        views.append(see)
    rows, where = torch.unique(torch.cat(rows), return_inverse=True)
    visible = torch.zeros(len(rows), len(i), dtype=torch.int32).index_add_(0, where, torch.cat(views, 1).T.int()) > 0
    used = visible.any(1)
    return rows[used], visible[used].T


def all_keys(terms, frames, block):
    """For each block of queries (blocks, W) rows and (blocks, B, W) visible, padded to the longest list."""
    found = [block_keys(terms, frames, torch.arange(start, start + block)) for start in range(0, frames, block)]
    width = max(len(rows) for rows, _ in found)
    width += -width % 8
    return (torch.stack([F.pad(rows, (0, width - len(rows))) for rows, _ in found]),
            torch.stack([F.pad(visible, (0, width - visible.shape[1])) for _, visible in found]))


def additive(visible, dtype, device):
    """A mask to be added, which scaled_dot_product_attention makes from a bool one at each call."""
    return torch.zeros(visible.shape, dtype=dtype).masked_fill_(~visible, -math.inf).to(device)


def extension(terms, frames, dtype, device):
    """A function from k or v to what the rows are taken from: cells are means, made anew at each call."""
    extras = behind(terms, frames)
    memory = [torch.randn(1, HEADS, rows, DIM, generator=torch.Generator().manual_seed(3)).to(device, dtype)
              for pool, rows in extras if not pool]

    def extend(x):
        cells = [x[:, :, :rows * pool].unflatten(2, (rows, pool)).mean(3) for pool, rows in extras if pool]
        return torch.cat([x, *cells, *memory], 2) if extras else x

    return extend


def gathered(terms, frames, dtype, device, block):
    """For each block of queries a copy of its keys; no mask where all of them see all."""
    q, k, v = inputs(frames, dtype, device)
    rows, visible = all_keys(terms, frames, block)
    width, rows = rows.shape[1], rows.flatten().to(device)
    mask = None if bool(visible.all()) else additive(visible[:, None], dtype, device)
    extend = extension(terms, frames, dtype, device)
    queries = q[0].view(HEADS, -1, block, DIM).transpose(0, 1)

    def call():
        kg, vg = (extend(x)[0].index_select(1, rows).view(HEADS, -1, width, DIM).transpose(0, 1) for x in (k, v))
        return attend(queries, kg, vg, attn_mask=mask).transpose(0, 1).reshape(1, HEADS, frames, DIM)

    return call


def dense(terms, frames, dtype, device):
    q, k, v = inputs(frames, dtype, device)
    count = frames + sum(rows for _, rows in behind(terms, frames))
    visible = torch.zeros(frames, count, dtype=torch.bool)
    for start in range(0, frames, 64):
        rows, see = block_keys(terms, frames, torch.arange(start, start + 64))
        visible[start:start + 64, rows] = see
    extend, mask = extension(terms, frames, dtype, device), additive(visible, dtype, device)
    return lambda: attend(q, extend(k), extend(v), attn_mask=mask)


def learned_choice(term, frames, q, k):
    """(blocks, n + 1): its own block and the n whose mean key has the greatest product with its mean query."""
    size, count = term["block"], frames // term["block"]
    means = [x[0].unflatten(1, (count, size)).mean(2).transpose(0, 1).flatten(1) for x in (q, k)]  # (blocks, H d)
    own = torch.arange(count, device=q.device)
    distance = own[:, None] - own
    barred = distance == 0
    if term.get("reach", -1) >= 0:
        barred |= distance > term["reach"]
    if term.get("lookahead", 0) >= 0:
        barred |= -distance > term.get("lookahead", 0)
    scores = (means[0] @ means[1].T).masked_fill_(barred, -math.inf)
    return torch.cat([own[:, None], scores.topk(term["blocks"]).indices], 1)


def learned(terms, frames, dtype, device):
    """Learned selection with its choice in it, the chosen blocks copied. (The first few blocks, which have fewer than n
    to choose from, get others instead.)"""
    q, k, v = inputs(frames, dtype, device)
    term = terms[0][1]
    size, count = term["block"], frames // term["block"]

    def call():
        rows = learned_choice(term, frames, q, k).flatten()
        kg, vg = (x[0].unflatten(1, (count, size)).index_select(1, rows).view(HEADS, count, -1, DIM).transpose(0, 1)
                  for x in (k, v))
        queries = q[0].view(HEADS, count, size, DIM).transpose(0, 1)
        return attend(queries, kg, vg).transpose(0, 1).reshape(1, HEADS, frames, DIM)

    return call


def learned_reference(terms, frames, dtype, device):
    q, k, v = inputs(frames, dtype, device)
    size = terms[0][1]["block"]
    choice = learned_choice(terms[0][1], frames, q, k)
    visible = torch.zeros(len(choice), len(choice), dtype=torch.bool, device=device).scatter_(1, choice, True)
    mask = visible.repeat_interleave(size, 0).repeat_interleave(size, 1)
    return lambda: attend(q, k, v, attn_mask=mask)


# The window of 128 + 128.


def full(frames, dtype, device):
    q, k, v = inputs(frames, dtype, device)
    return lambda: attend(q, k, v)


def masked(frames, dtype, device):
    """What the others are compared with."""
    q, k, v = inputs(frames, dtype, device)
    i = torch.arange(frames, device=device)
    return lambda: attend(q, k, v, attn_mask=(i[:, None] - i).abs() <= WINDOW)


def blocks(frames, dtype, device, size, layout, form):
    """Query blocks of `size` as the batch, each against its size + 256 keys, which are windows of k and not copies.

    masks: k and v padded, a mask for each block. shared: one mask for all but the blocks at both ends, which are two
    calls more."""
    q, k, v = inputs(frames, dtype, device, layout)
    width = size + 2 * WINDOW

    def batch(x, length):  # (1, H, T, d) -> (blocks, H, length, d), a view
        return x[0].unfold(1, length, size).permute(1, 0, 3, 2)

    def visible(first, count, key_first, key_count):
        i, j = torch.arange(first, first + count)[:, None], torch.arange(key_first, key_first + key_count)
        return ((j - i).abs() <= WINDOW) & (j >= 0) & (j < frames)

    def joined(out):  # (blocks, H, size, d) -> (T, H, d)
        return out.transpose(1, 2).flatten(0, 1)

    if form == "masks":
        mask = additive(torch.stack([visible(b, size, b - WINDOW, width) for b in range(0, frames, size)])[:, None],
                        dtype, device)

        def call():
            padded = [F.pad(x, (0, 0, WINDOW, WINDOW)) for x in (k, v)]
            out = attend(batch(q, size), batch(padded[0], width), batch(padded[1], width), attn_mask=mask)
            return joined(out).transpose(0, 1)[None]
    else:
        edge = -(-WINDOW // size) * size
        mask = additive(visible(edge, size, edge - WINDOW, width), dtype, device)
        head = additive(visible(0, edge, 0, edge + WINDOW), dtype, device)
        tail = additive(visible(frames - edge, edge, frames - edge - WINDOW, edge + WINDOW), dtype, device)

        def call():
            inner = [x[:, :, edge - WINDOW:frames - edge + WINDOW] for x in (k, v)]
            ends = [attend(q[:, :, part], k[:, :, keys], v[:, :, keys], attn_mask=m)[0].transpose(0, 1)
                    for part, keys, m in ((slice(0, edge), slice(0, edge + WINDOW), head),
                                          (slice(frames - edge, frames), slice(frames - edge - WINDOW, frames), tail))]
            middle = attend(batch(q[:, :, edge:frames - edge], size), batch(inner[0], width), batch(inner[1], width),
                            attn_mask=mask)
            return torch.cat([ends[0], joined(middle), ends[1]]).transpose(0, 1)[None]

    return call


def in_window(_batch, _head, i, j):
    return (i - j).abs() <= WINDOW


def flex(frames, dtype, device, size):
    from torch.nn.attention.flex_attention import BlockMask, flex_attention
    q, k, v = inputs(frames, dtype, device)
    count, reach = frames // size, -(-WINDOW // size)
    b = torch.arange(count)
    near = b[:, None] + torch.arange(-reach, reach + 1)
    # Every pair of a query and a key of these blocks is within the window; of the other near ones, some are.
    whole = (torch.arange(-reach, reach + 1).abs() + 1) * size - 1 <= WINDOW

    def listed(keep):
        inside = (near >= 0) & (near < count) & keep
        indices = torch.zeros(count, count, dtype=torch.int32)
        for row in range(count):
            found = near[row][inside[row]]
            indices[row, :len(found)] = found.int()
        return inside.sum(1).int()[None, None].to(device), indices[None, None].to(device)

    partial, entire = listed(~whole), listed(whole)
    mask = BlockMask.from_kv_blocks(*partial, *(entire if bool(whole.any()) else (None, None)), BLOCK_SIZE=size,
                                    mask_mod=in_window, seq_lengths=(frames, frames))
    torch._dynamo.reset()
    compiled = torch.compile(flex_attention, dynamic=False)
    return lambda: compiled(q, k, v, block_mask=mask)


def longformer_positions(dtype, device):
    """u, v (1, H, 1, d) and p (1, H, 2w + 1, d)."""
    generator = torch.Generator(device=device).manual_seed(2)
    return [torch.empty(1, HEADS, n, DIM, dtype=dtype, device=device).normal_(generator=generator)
            for n in (1, 1, 2 * WINDOW + 1)]


def longformer(frames, dtype, device):
    """Chunks of 2w frames that overlap by w are multiplied whole; a row too many, read with another row length, turns
    the diagonals of each product into columns, of which the 2w + 1 in the window are copied together."""
    q, k, v = inputs(frames, dtype, device)
    u_bias, v_bias, p = longformer_positions(dtype, device)
    w, pieces = WINDOW, frames // WINDOW
    corner = torch.ones(w, w, dtype=torch.bool, device=device).triu().flip(1)  # keys before the first frame

    def chunks(x):  # (H, T, d) -> (H, T / w - 1, 2w, d), a view
        return x.unfold(1, 2 * w, w).transpose(2, 3)

    def call():
        with_u, with_v = q + u_bias, q + v_bias
        product = chunks(with_u[0]) @ chunks(k[0]).transpose(2, 3)  # (H, C, 2w, 2w)
        diagonals = F.pad(product, (0, 0, 0, 1)).view(HEADS, pieces - 1, 2 * w, 2 * w + 1)
        # Row r, column c is now query r against key r + c, as long as that is in the chunk.
        scores = product.new_empty(HEADS, pieces, w, 2 * w + 1)
        scores[:, :-1, :, w:] = diagonals[:, :, :w, :w + 1]
        scores[:, -1, :, w:] = diagonals[:, -1, w:, :w + 1]
        # In the flat product the keys before query r of the second half are the end of the row above.
        scores[:, 1:, :, :w] = diagonals[:, :, w - 1:-1, w + 1:]
        scores[:, 0, 1:, 1:w] = diagonals[:, 0, :w - 1, w + 2:]
        scores = scores.view(1, HEADS, frames, 2 * w + 1)
        scores += with_v @ p.transpose(2, 3)
        scores *= DIM ** -0.5
        scores[:, :, :w, :w].masked_fill_(ends[0], -math.inf)
        scores[:, :, -w:, w + 1:].masked_fill_(ends[1], -math.inf)
        probabilities = scores.softmax(-1).view(HEADS, pieces, w, 2 * w + 1)
        # Columns become diagonals again: row r moves right by r.
        skewed = F.pad(probabilities, (0, w)).flatten(2)[:, :, :-w].view(HEADS, pieces, w, 3 * w)
        values = F.pad(v[0], (0, 0, w, w)).unfold(1, 3 * w, w).transpose(2, 3)  # (H, T / w, 3w, d)
        return (skewed @ values).view(1, HEADS, frames, DIM)

    ends = (corner, corner.flip(0, 1))
    return call


def longformer_reference(frames, dtype, device):
    q, k, v = inputs(frames, dtype, device)
    u_bias, v_bias, p = longformer_positions(dtype, device)
    distance = torch.arange(frames, device=device) - torch.arange(frames, device=device)[:, None] + WINDOW
    inside = (distance >= 0) & (distance <= 2 * WINDOW)
    bias = ((q + v_bias) @ p.transpose(2, 3)).gather(3, distance.clamp(0, 2 * WINDOW).expand(1, HEADS, -1, -1))
    bias = (bias * DIM ** -0.5).masked_fill(~inside, -math.inf)
    return lambda: attend(q + u_bias, k, v, attn_mask=bias)


def natten(frames, dtype, device):
    from natten import na1d
    q, k, v = (x.transpose(1, 2) for x in inputs(frames, dtype, device, "frames"))
    return lambda: na1d(q, k, v, kernel_size=2 * WINDOW + 1).transpose(1, 2)


# Measuring.


class Peer:
    def __init__(self, device):
        self.device = device
        self.ready = {}   # contender -> (variant, call), of one length and type
        self.length = None
        self.choices = {}  # (contender, type) -> variant

    def measure(self, call, repeats):
        """(wall, CPU) seconds, medians; on a GPU calls follow one another, and both are the mean."""
        if self.device == "cuda":
            self.wait()
            start = time.perf_counter()
            for _ in range(repeats):
                call()
            self.wait()
            mean = (time.perf_counter() - start) / repeats
            return mean, mean
        wall, cpu = [], []
        for _ in range(repeats):
            self.wait()
            start, start_cpu = time.perf_counter(), time.process_time()
            out = call()
            self.wait()
            wall.append(time.perf_counter() - start)
            cpu.append(time.process_time() - start_cpu)
            del out
        return statistics.median(wall), statistics.median(cpu)

    def seconds(self, call, repeats):
        """Of one thread the CPU time, so that other work on the machine is left out."""
        wall, cpu = self.measure(call, repeats)
        return cpu if self.device == "cpu" and torch.get_num_threads() == 1 else wall

    def wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()

    def variants(self, command):
        name = command["contender"]
        if name == "blocks":
            return [f"{size},{layout},{form}" for size in BLOCK_SIZES for layout in ("heads", "frames")
                    for form in ("masks", "shared")]
        if name == "flex":
            return [str(size) for size in ((64, 128) if self.device == "cuda" else BLOCK_SIZES)]
        if name == "stock":
            kinds = [kind for kind, _ in parse(command["pattern"])]
            if kinds in (["full"], ["learned"]):
                return kinds
            some = ["dense"] if command["frames"] <= DENSE_FRAMES else []
            return some + [f"gathered,{size}" for size in BLOCK_SIZES]
        return [""]

    def make(self, command, variant):
        name, frames, dtype = command["contender"].split(":")[0], command["frames"], TYPES[command["type"]]
        where = (frames, dtype, self.device)
        if name == "blocks":
            size, layout, form = variant.split(",")
            return blocks(*where, int(size), layout, form)
        if name == "flex":
            return flex(*where, int(variant))
        if name == "stock":
            kind, _, size = variant.partition(",")
            if kind == "full":
                return full(*where)
            terms = parse(command["pattern"])
            if kind == "gathered":
                return gathered(terms, *where, int(size))
            return {"dense": dense, "learned": learned}[kind](terms, *where)
        return {"full": full, "masked": masked, "longformer": longformer, "natten": natten}[name](*where)

    def choose(self, command):
        """The fastest variant, by two calls of each after a first one."""
        given = command["contender"].partition(":")[2]
        if given:
            return given
        options = self.variants(command)
        frames = min(command["frames"], CHOICE_FRAMES)
        key = (command["contender"], command["type"], frames, json.dumps(command.get("pattern")))
        if key not in self.choices:
            if len(options) > 1:
                found, reason = {}, None
                for variant in options:
                    try:
                        call = self.make({**command, "frames": frames}, variant)
                        call()
                        found[variant] = self.seconds(call, 3)
                        del call
                    except Exception as error:  # pylint: disable=broad-except
                        reason = error  # a form that this device does not have
                if not found:
                    raise reason
                if command.get("verbose"):
                    print({name: round(value, 4) for name, value in found.items()}, file=sys.stderr)
                options = sorted(found, key=found.get)
            self.choices[key] = options[0]
        return self.choices[key]

    def prepared(self, command):
        length = (command["frames"], command["type"])
        if length != self.length:
            self.ready, self.length = {}, length
        key = command["contender"] + json.dumps(command.get("pattern"))
        if key not in self.ready:
            variant = self.choose(command)
            call = self.make(command, variant)
            call()
            self.ready[key] = (variant, call)
        return self.ready[key]

    def answer(self, command):
        if command.get("threads") and torch.get_num_threads() != command["threads"]:
            torch.set_num_threads(command["threads"])
        if command.get("about"):
            amx = self.device == "cpu" and torch.cpu._is_amx_tile_supported()
            name = torch.cuda.get_device_name() if self.device == "cuda" else ("CPU with AMX" if amx else "CPU")
            return {"torch": torch.__version__, "device": name}
        if command.get("check"):
            return {"errors": self.check()}
        if command["contender"] == "gemm":
            return {"flops": self.gemm(TYPES[command["type"]])}
        if command["contender"] == "copy":
            return {"bytes_per_second": self.copy(command["bytes"])}
        variant, call = self.prepared(command)
        wall, cpu = self.measure(call, command.get("repeats", 1))
        return {"seconds": wall, "cpu_seconds": cpu, "variant": variant}

    def gemm(self, dtype):
        best = 0.0
        for batch, m, n, k in ((1, 4096, 272, 64), (4, 4096, 272, 64), (64, 512, 272, 64), (64, 512, 64, 272)):
            a = torch.randn(batch, m, k, device=self.device).to(dtype)
            b = torch.randn(batch, k, n, device=self.device).to(dtype)
            out = torch.empty(batch, m, n, device=self.device, dtype=dtype)
            call = lambda: torch.bmm(a, b, out=out)  # noqa: E731
            call()
            best = max(best, 2 * batch * m * n * k / self.seconds(call, 15))
        return best

    def copy(self, count):
        a = torch.empty(count // 2, dtype=torch.int16, device=self.device)
        b = torch.empty_like(a)
        call = lambda: b.copy_(a)  # noqa: E731
        call()
        return 2 * count / self.seconds(call, 9)  # read and written

    def check(self):
        errors = {}
        names = ["blocks", "flex", "longformer"]
        if self.device == "cuda":
            try:
                import natten as _  # noqa: F401
                names.append("natten")
            except ImportError:
                pass
        for kind in ("fp32", "bf16") if self.device == "cpu" else ("bf16", "fp16"):
            where = (1024, TYPES[kind], self.device)
            expected, positions = masked(*where)(), longformer_reference(*where)()
            for name in names:
                command = {"contender": name, "frames": 1024, "type": kind}
                for variant in self.variants(command) if name != "flex" or self.device == "cpu" else ("128",):
                    out = self.make(command, variant)()
                    want = positions if name == "longformer" else expected
                    if name == "natten":  # its window does not shrink at the ends
                        out, want = out[:, :, WINDOW:-WINDOW], want[:, :, WINDOW:-WINDOW]
                    errors[f"{name}:{variant} {kind}"] = (out.float() - want.float()).abs().max().item()
            for pattern in CHECKED:
                command = {"contender": "stock", "frames": 1024, "type": kind, "pattern": pattern}
                terms = parse(pattern)
                want = (learned_reference if terms[0][0] == "learned" else dense)(terms, *where)()
                if terms[0][0] == "sliding":
                    want = expected
                for variant in self.variants(command):
                    out = self.make(command, variant)()
                    errors[f"{pattern} {variant} {kind}"] = (out.float() - want.float()).abs().max().item()
        return errors


# The forms of a pattern with each other; the first one, which no other forms check, with the masked window.
CHECKED = ("sliding(left=128,right=128)", "local(chunk=128,left=128,lookahead=0)+strided(every=32,reach=512)",
           "blockwise(block=64,offsets=-2;-1;1)", "learned(block=64,blocks=4,reach=-1,lookahead=-1)",
           "hierarchical(chunk=64,left=16,lookahead=0,pool=4,levels=3)",
           "local(chunk=128,left=128,lookahead=0)+memory(slots=16,chunk=128)")


def resident(field):
    with open("/proc/self/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


def memory(peer, command):
    """Bytes that one call takes beyond what was there before it and its output. A call before it compiles and makes
    masks and lists, which therefore do not count."""
    torch.set_num_threads(command.get("threads", 1))
    call = peer.make(command, peer.choose(command))
    output = call().nbytes
    if peer.device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before - output
    with open("/proc/self/clear_refs", "w", encoding="utf-8") as reset:
        reset.write("5")  # the peak starts again from here
    before = resident("VmRSS")
    call()
    return max(0, resident("VmHWM") - before - output)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--memory", metavar="JSON")
    arguments = parser.parse_args()
    torch._dynamo.config.recompile_limit = 64
    peer = Peer(arguments.device)
    with torch.inference_mode():
        if arguments.memory:
            print(json.dumps({"extra_bytes": memory(peer, json.loads(arguments.memory))}))
            return
        # What libraries print goes to stderr: a line of stdout is an answer.
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        for line in sys.stdin:
            try:
                answer = peer.answer(json.loads(line))
            except Exception as error:  # pylint: disable=broad-except
                answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
