// The lists of the arithmetic terms. A block goes through the rows that the terms may list for its tile, twice: to
// count the entries, and, with the prefix sums of the counts, to write them. A row belongs to the first term that lists
// it, and gets an entry for each run of queries that any term shows it to. Behind them come the rows of selected
// blocks, for what of a block of queries sees them by no term.
#include "src/attention/cuda/attention_cuda.h"
#include "src/attention/cuda/kernels.h"
#include "src/attention/cuda/launch.cuh"
#include "src/attention/cuda/scan_sort.cuh"
#include "src/attention/cuda/terms.cuh"

namespace earshot::cuda {
namespace {

constexpr int kListThreads = 128;

// The utterance of a tile.
struct Span {
  CudaUtterance utterance;
  int32_t index;
};

struct ListProblem {
  CudaTerm terms[kCudaMaxTerms];
  int32_t num_terms;
  CudaSelection selection;
  const CudaQueryTile* tiles;
  const Span* spans;  // of each tile; null: there are no utterances
  const int32_t* also_offsets;
  const CudaKeyEntry* also_entries;
  const float* row_values;
  float threshold;
  bool drops_queries;
  int32_t* offsets;  // counts before the prefix sums
  CudaKeyEntry* entries;
};

// Whether the gate leaves the row in the lists.
__device__ __forceinline__ bool KeepsRow(const ListProblem& p, int32_t row) {
  return !p.row_values || p.row_values[row] >= p.threshold;
}

// The next run of queries, from `from` on, that any of the terms shows the position to; empty: there is none.
__device__ Run NextRun(const ListProblem& p, int32_t position, int32_t query, int32_t count, int32_t from) {
  Run next = {count, count};
  for (int t = 0; t < p.num_terms; ++t) {
    const Run run = QueriesOf(p.terms[t], position, query, count);
    if (run.end > from && Max(run.first, from) < next.first) next = {Max(run.first, from), run.end};
  }
  for (bool grows = next.first < next.end; grows;) {
    grows = false;
    for (int t = 0; t < p.num_terms; ++t) {
      const Run run = QueriesOf(p.terms[t], position, query, count);
      if (run.first <= next.end && run.end > next.end) next.end = run.end, grows = true;
    }
  }
  return next;
}

// Calls use(run) for each run of queries of [first, end) to whom no term shows the position.
template <class Use>
__device__ __forceinline__ void ForUnseenRuns(const ListProblem& p, int32_t position, int32_t query, int32_t first,
                                              int32_t end, Use use) {
  while (first < end) {
    const Run seen = NextRun(p, position, query, end, first);
    if (seen.first > first) use(Run{first, seen.first});
    first = seen.first < seen.end ? seen.end : end;
  }
}

// A row of a selected block, for a block of queries of the tile.
struct SelectedRow {
  int32_t position = 0;
  int32_t first = 0, end = 0;  // queries of the tile; none where there is no such row
  int32_t score = 0;
};

// How many rows a tile's blocks of queries may have selected.
__host__ __device__ __forceinline__ int64_t SelectedOf(const CudaSelection& s, int32_t query, int32_t count) {
  if (!s.blocks) return 0;
  return static_cast<int64_t>((query + count - 1) / s.block - query / s.block + 1) * s.chosen * s.block;
}
__device__ __forceinline__ SelectedRow SelectedAt(const CudaSelection& s, int32_t index, const Span& span,
                                                  int32_t query, int32_t count) {
  const int32_t place = index / s.block, block = query / s.block + place / s.chosen;
  SelectedRow row;
  row.score = (span.index * s.num_blocks + block) * s.chosen + place % s.chosen;
  const int64_t chosen = s.blocks[row.score];
  if (chosen < 0 || chosen > span.utterance.length / s.block) return row;
  const int32_t position = static_cast<int32_t>(chosen) * s.block + index % s.block;
  if (position >= span.utterance.length) return row;
  row.position = position;
  row.first = Max(block * s.block - query, 0), row.end = Min((block + 1) * s.block - query, count);
  return row;
}

// From the first to the last query of the tile that is kept; a thread has one query. For all threads together.
__device__ Run KeptQueries(const ListProblem& p, const CudaQueryTile& tile, int32_t* shared) {
  static_assert(kListThreads == kCudaTileQueries);
  constexpr int kListWarps = kListThreads / kWarp;
  if (!p.drops_queries || !p.row_values) return {0, tile.num_queries};
  const int query = static_cast<int>(threadIdx.x), warp = query / kWarp;
  const bool kept = query < tile.num_queries && p.row_values[tile.first_query + query] >= p.threshold;
  const unsigned ballot = __ballot_sync(kAllLanes, kept);
  if (query % kWarp == 0) SharedStore(shared + warp, static_cast<int32_t>(ballot));
  __syncthreads();
  Run run = {0, 0};
  for (int w = kListWarps - 1; w >= 0; --w) {
    const auto bits = static_cast<unsigned>(SharedLoad(shared + w));
    if (bits == 0) continue;
    if (run.end == 0) run.end = (w + 1) * kWarp - __clz(static_cast<int>(bits));
    run.first = w * kWarp + __popc((bits & (0U - bits)) - 1);
  }
  __syncthreads();
  return run;
}

// Counts, or writes, what the threads of a block bring, in their order.
template <bool kFill>
class Output {
 public:
  __device__ Output(const ListProblem& p, int32_t* shared)
      : p_(p), shared_(shared), next_(kFill ? p.offsets[blockIdx.x] : 0) {}

  // How many entries this thread brings. For all threads together.
  __device__ void Add(int count) {
    const BlockSums sums = SumOverBlock<kListThreads>(count, shared_);
    own_ = next_ + sums.before;
    next_ += sums.total;
  }
  __device__ void Write(const CudaKeyEntry& entry) { p_.entries[own_++] = entry; }
  __device__ void Finish() {
    if (threadIdx.x == 0) p_.offsets[blockIdx.x] = next_;
  }

 private:
  const ListProblem& p_;
  int32_t* shared_;
  int next_, own_ = 0;
};

template <bool kFill>
__global__ void ListKernel(const __grid_constant__ ListProblem p) {
  Output<kFill> output(p, DynamicShared<int32_t>());
  const CudaQueryTile tile = p.tiles[blockIdx.x];
  const Run kept = KeptQueries(p, tile, DynamicShared<int32_t>());
  const Span of_tile = p.spans ? p.spans[blockIdx.x] : Span{};
  const CudaUtterance& span = of_tile.utterance;
  const int32_t query = tile.first_query - span.start, count = tile.num_queries;
  for (int t = 0; t < p.num_terms; ++t) {
    const CudaTerm& term = p.terms[t];
    const int32_t candidates = CandidatesOf(term, query, count, span.length);
    const int32_t first = PositionsOf(term, query, count, span.length).first;
    for (int32_t begin = 0; begin < candidates; begin += kListThreads) {
      const int32_t index = begin + static_cast<int32_t>(threadIdx.x);
      const int32_t position = index < candidates ? first + index * term.step : 0, row = span.start + position;
      bool listed = index < candidates && KeepsRow(p, row);
      for (int u = 0; u < t && listed; ++u) {
        const Run earlier = QueriesOf(p.terms[u], position, query, count);
        listed = earlier.first >= earlier.end;
      }
      int runs = 0;
      if (listed) {
        for (Run run = NextRun(p, position, query, kept.end, kept.first); run.first < run.end;
             run = NextRun(p, position, query, kept.end, run.end))
          ++runs;
      }
      output.Add(runs);
      if (kFill && listed) {
        for (Run run = NextRun(p, position, query, kept.end, kept.first); run.first < run.end;
             run = NextRun(p, position, query, kept.end, run.end)) {
          output.Write({row, static_cast<uint16_t>(run.first), static_cast<uint16_t>(run.end), -1});
        }
      }
    }
  }
  const auto selected = static_cast<int32_t>(SelectedOf(p.selection, query, count));
  for (int32_t begin = 0; begin < selected; begin += kListThreads) {
    const int32_t index = begin + static_cast<int32_t>(threadIdx.x);
    const SelectedRow found = index < selected ? SelectedAt(p.selection, index, of_tile, query, count) : SelectedRow{};
    const int32_t row = span.start + found.position;
    const bool listed = found.first < found.end && KeepsRow(p, row);
    const int32_t first = Max(found.first, kept.first), end = listed ? Min(found.end, kept.end) : 0;
    int runs = 0;
    ForUnseenRuns(p, found.position, query, first, end, [&](const Run&) { ++runs; });
    output.Add(runs);
    if (kFill) {
      ForUnseenRuns(p, found.position, query, first, end, [&](const Run& run) {
        output.Write({row, static_cast<uint16_t>(run.first), static_cast<uint16_t>(run.end), found.score});
      });
    }
  }
  const int32_t also_begin = p.also_offsets ? p.also_offsets[blockIdx.x] : 0;
  const int32_t also_end = p.also_offsets ? p.also_offsets[blockIdx.x + 1] : 0;
  for (int32_t begin = also_begin; begin < also_end; begin += kListThreads) {
    const int32_t index = begin + static_cast<int32_t>(threadIdx.x);
    const CudaKeyEntry entry = index < also_end ? p.also_entries[index] : CudaKeyEntry{};
    const bool listed = index < also_end && KeepsRow(p, entry.row);
    output.Add(listed ? 1 : 0);
    if (kFill && listed) output.Write(entry);
  }
  if constexpr (!kFill) output.Finish();
}

__global__ void TilesKernel(const CudaUtterance* utterances, int32_t num_utterances, int32_t num_tiles,
                            CudaQueryTile* tiles, Span* spans) {
  const int32_t tile = static_cast<int32_t>(blockIdx.x * kListThreads + threadIdx.x);
  if (tile >= num_tiles) return;
  int32_t before = 0;
  for (int32_t u = 0; u < num_utterances; ++u) {
    const CudaUtterance span = utterances[u];
    const int32_t own = (span.length + kCudaTileQueries - 1) / kCudaTileQueries;
    if (tile < before + own) {
      const int32_t offset = (tile - before) * kCudaTileQueries;
      tiles[tile] = {span.start + offset, Min(span.length - offset, kCudaTileQueries)};
      spans[tile] = {span, u};
      return;
    }
    before += own;
  }
}

int Check(const CudaListArguments& a) {
  if (a.num_terms < 0 || a.num_terms > kCudaMaxTerms) return kTermsOutOfRange;
  for (int t = 0; t < a.num_terms; ++t) {
    const CudaTerm& term = a.terms[t];
    if (term.chunk < 1 || term.step < 1 || term.chunk > kCudaEndless || term.step > kCudaEndless ||
        term.from < -kCudaEndless || term.from > kCudaEndless || term.to < -kCudaEndless || term.to > kCudaEndless)
      return kTermsOutOfRange;
  }
  const CudaSelection& s = a.selection;
  if (s.blocks && (s.block < 1 || s.block > kCudaEndless || s.chosen < 0 || s.num_blocks < 0)) return kTermsOutOfRange;
  if (a.num_utterances < 0) return kRowsOutOfRange;
  // Without utterances the tiles of `also` have no positions that a term could mean.
  if (a.num_utterances == 0) return (a.num_terms > 0 || s.blocks) && a.also ? kTilesDiffer : 0;
  if (!a.host_utterances || !a.device_utterances) return kNullPointer;
  int64_t end = 0;
  for (int u = 0; u < a.num_utterances; ++u) {
    const CudaUtterance& utterance = a.host_utterances[u];
    if (utterance.start < end || utterance.length < 0) return kRowsOutOfRange;
    end = int64_t{utterance.start} + utterance.length;
    if (end >= kCudaEndless) return kRowsOutOfRange;
    if (s.blocks && utterance.length > int64_t{s.num_blocks} * s.block) return kTermsOutOfRange;
  }
  // Places of scores are 32 bits, and so is the number of rows that a tile's blocks may have selected.
  if (s.blocks && (int64_t{a.num_utterances} * s.num_blocks >= INT32_MAX / Max(s.chosen, 1) ||
                   int64_t{s.block} * s.chosen > INT32_MAX / (kCudaTileQueries + 1)))
    return kTermsOutOfRange;
  return 0;
}

struct Layout {
  int32_t num_tiles = 0;
  int64_t capacity = 0;
  CudaQueryTile* tiles;
  Span* spans;
  int32_t* offsets;
  int32_t* scratch;
  CudaKeyEntry* entries;
  int64_t bytes = 0;
};

int LayOut(const CudaListArguments& a, void* memory, Layout* layout) {
  EARSHOT_CUDA_TRY(Check(a));
  for (int u = 0; u < a.num_utterances; ++u) {
    const int32_t length = a.host_utterances[u].length;
    for (int32_t query = 0; query < length; query += kCudaTileQueries) {
      ++layout->num_tiles;
      const int32_t count = Min(length - query, kCudaTileQueries);
      int64_t of_terms = 0;
      for (int t = 0; t < a.num_terms; ++t) of_terms += CandidatesOf(a.terms[t], query, count, length);
      // A run of queries that see a row by a term splits those that see it by selection into one more at most.
      layout->capacity += (a.selection.blocks ? 2 : 1) * of_terms + SelectedOf(a.selection, query, count);
    }
  }
  if (a.also) {
    if (a.num_utterances > 0 && a.also->num_tiles != layout->num_tiles) return kTilesDiffer;
    layout->num_tiles = a.also->num_tiles;
    layout->capacity += a.also->capacity;
  }
  if (layout->capacity >= INT32_MAX) return kListsOutOfRange;
  Carver carver(memory);
  layout->tiles = carver.Take<CudaQueryTile>(layout->num_tiles);
  layout->spans = carver.Take<Span>(layout->num_tiles);
  layout->offsets = carver.Take<int32_t>(layout->num_tiles + 1);
  layout->scratch = carver.Take<int32_t>(ScanScratch(layout->num_tiles));
  layout->entries = carver.Take<CudaKeyEntry>(layout->capacity);
  layout->bytes = carver.bytes();
  return 0;
}

}  // namespace

int64_t KeyListsBytes(const CudaListArguments& arguments) {
  Layout layout;
  EARSHOT_CUDA_TRY(LayOut(arguments, nullptr, &layout));
  return layout.bytes;
}

int BuildKeyLists(const CudaListArguments& arguments, void* memory, CudaKeyLists* lists, void* stream) {
  Layout layout;
  EARSHOT_CUDA_TRY(LayOut(arguments, memory, &layout));
  if (!memory || !lists) return kNullPointer;
  ListProblem problem = {};
  for (int t = 0; t < arguments.num_terms; ++t) problem.terms[t] = arguments.terms[t];
  problem.num_terms = arguments.num_terms;
  problem.selection = arguments.selection;
  problem.tiles = layout.tiles;
  if (arguments.also)
    problem.also_offsets = arguments.also->tile_offsets, problem.also_entries = arguments.also->entries;
  problem.row_values = arguments.row_values, problem.threshold = arguments.threshold;
  problem.drops_queries = arguments.drops_queries && (arguments.num_terms > 0 || arguments.selection.blocks);
  problem.offsets = layout.offsets, problem.entries = layout.entries;
  if (arguments.num_utterances > 0) {
    problem.spans = layout.spans;
    EARSHOT_CUDA_TRY(Launch(TilesKernel, {Blocks(layout.num_tiles, kListThreads)}, kListThreads, 0, stream,
                            arguments.device_utterances, arguments.num_utterances, layout.num_tiles, layout.tiles,
                            layout.spans));
  } else if (arguments.also) {
    problem.tiles = arguments.also->tiles;
  }
  constexpr int64_t kShared = kListThreads / kWarp * 4;
  EARSHOT_CUDA_TRY(Launch(ListKernel<false>, {layout.num_tiles}, kListThreads, kShared, stream, problem));
  EARSHOT_CUDA_TRY(ExclusiveScan(layout.offsets, layout.num_tiles, layout.scratch, stream));
  EARSHOT_CUDA_TRY(Launch(ListKernel<true>, {layout.num_tiles}, kListThreads, kShared, stream, problem));
  *lists = {layout.num_tiles, problem.tiles, layout.offsets, layout.entries, layout.capacity};
  return 0;
}

}  // namespace earshot::cuda
