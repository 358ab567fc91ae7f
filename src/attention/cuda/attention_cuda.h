// Attention over lists of keys on the GPU: what src/attention/attention_kernel.h is on the CPU, free of torch and of
// CUDA's headers. The kernels live in a shared object of their own, so that programs start on machines without CUDA:
//
//   void* library = dlopen("libearshot_cuda.so", RTLD_NOW | RTLD_LOCAL);
//   auto table = reinterpret_cast<CudaAttentionTableFunction>(dlsym(library, kCudaAttentionTable))();
//   if (table->version != kCudaAttentionVersion) ...                  // another build's library
//   CudaListArguments wanted = {.num_utterances = N, .host_utterances = ..., .device_utterances = ...};
//   wanted.terms[wanted.num_terms++] = CudaLocalTerm(16, 64, 0);
//   void* memory = ...;                                               // table->key_lists_bytes(wanted) on the device
//   CudaKeyLists lists;
//   table->build_key_lists(wanted, memory, &lists, stream);
//   table->forward({.heads = 8, ..., .lists = lists}, stream);
//
// For query i of a tile, head h, and the entries e of the tile that i is in, with row j = e.row,
//
//   logit = scale q_i.k_j + bias_j + score_e,    lse_i = log sum exp(logit),    out_i = sum exp(logit - lse_i) v_j .
//
// A query without entries, or with nothing but biases of minus infinity, gets zeros and lse = -infinity. Products of
// matrices take 16-bit numbers, every sum is float. The same arguments give the same bits every time, backwards too.
//
// Every pointer is the device's unless it says host; nothing waits for the device. `stream` is a cudaStream_t of the
// current device. Functions return 0, a cudaError_t (positive), or an error of their own (negative); message() words
// them. What they are given must stay until the stream has come to the end of the work. Thread-safe.
#pragma once

#include <cstdint>

namespace earshot {

inline constexpr int32_t kCudaAttentionVersion = 5;
// Queries of a tile at most.
inline constexpr int32_t kCudaTileQueries = 128;
inline constexpr int32_t kCudaMaxTerms = 16;
// An end that no key reaches. Rows, queries and positions are below it.
inline constexpr int32_t kCudaEndless = 1 << 30;

// ---- Lists ----

struct CudaKeyEntry {
  int32_t row = 0;              // of k and v
  uint16_t first = 0, end = 0;  // queries [first, end) of the tile see it; the ranges of a row never overlap
  int32_t score = -1;           // index into the scores of learned selection; -1: nothing is added
};

// Queries of one utterance in a row; no two tiles share a query.
struct CudaQueryTile {
  int32_t first_query = 0;  // row of q and out
  int32_t num_queries = 0;  // 1 to kCudaTileQueries
};

// Tile t sees entries[tile_offsets[t]] to entries[tile_offsets[t + 1] - 1], in any order; those that are
// next to one another are best seen by the same queries.
struct CudaKeyLists {
  int32_t num_tiles = 0;
  const CudaQueryTile* tiles = nullptr;   // (num_tiles)
  const int32_t* tile_offsets = nullptr;  // (num_tiles + 1), from 0
  const CudaKeyEntry* entries = nullptr;  // (capacity)
  int64_t capacity = 0;                   // what tile_offsets[num_tiles] is at most, below 2^31
};

// A term of a pattern, whatever its kind: position i of an utterance sees the positions j with j % step == 0 and
//   chunk_start(i) + from <= j <= chunk_start(i) + to,    chunk_start(i) = i / chunk * chunk.
struct CudaTerm {
  int32_t chunk = 1, step = 1;
  int32_t from = 0, to = 0;  // within +-kCudaEndless
};

// The terms of src/attention/pattern.h. left and reach: -1 is endless.
inline CudaTerm CudaFullTerm(bool causal) { return {1, 1, -kCudaEndless, causal ? 0 : kCudaEndless}; }
inline CudaTerm CudaLocalTerm(int32_t chunk, int32_t left, int32_t lookahead) {
  return {chunk, 1, left < 0 ? -kCudaEndless : -left, chunk - 1 + lookahead};
}
inline CudaTerm CudaSlidingTerm(int32_t left, int32_t right) { return CudaLocalTerm(1, left, right); }
inline CudaTerm CudaStridedTerm(int32_t every, int32_t reach, int32_t lookahead) {
  return {1, every, reach < 0 ? -kCudaEndless : -reach, lookahead};
}
// The blocks at distances first to last; blockwise with other offsets is several such terms, the one of 0 among them.
inline CudaTerm CudaBlockTerm(int32_t block, int32_t first, int32_t last) {
  return {block, 1, block * first, block * last + block - 1};
}

struct CudaUtterance {
  int32_t start = 0, length = 0;
};

// What a model chose: each query of block b of utterance u sees the rows of the utterance's blocks
// blocks[(u num_blocks + b) chosen + r] for r < chosen, each with that place as the index of its score. A query that
// sees a row by a term sees it without a score.
struct CudaSelection {
  const int64_t* blocks = nullptr;  // (num_utterances, num_blocks, chosen); -1: none; no block twice. Null: nothing
  int32_t num_blocks = 0;           // of the longest utterance at least
  int32_t chosen = 0;
  int32_t block = 1;  // frames of a block
};

struct CudaListArguments {
  // The keys of query i of an utterance are the union of what the terms see, within the utterance.
  CudaTerm terms[kCudaMaxTerms];
  int32_t num_terms = 0;
  CudaSelection selection;
  // Utterance u is host_utterances[u].length rows of q and of k from host_utterances[u].start on, ascending. Both may
  // be null where there is no term and no selection.
  int32_t num_utterances = 0;
  const CudaUtterance* host_utterances = nullptr;    // on the host, read before the function returns
  const CudaUtterance* device_utterances = nullptr;  // the same on the device
  // Entries that each tile gets besides, of rows that no term lists. Without utterances its tiles are the result's;
  // otherwise they must be those that the utterances give: ceil(length / kCudaTileQueries) for each, in order. Null:
  // none.
  const CudaKeyLists* also = nullptr;
  // Entries with row_values[row] < threshold are left out: the gate, or its logarithm, below tau. Null: none is.
  const float* row_values = nullptr;
  float threshold = 0;
  // Queries with less see nothing either, where that makes a list shorter: those at both ends of a tile. Not of `also`.
  bool drops_queries = false;
};

// ---- Forward ----

// Element (row, head, channel) lies at data[row * frame_stride + head * head_stride + channel]; strides in elements.
// Multiples of 8, and data on 16 bytes, are fast; others work.
struct CudaConstHeads {
  const void* data = nullptr;
  int64_t frame_stride = 0, head_stride = 0;
};
struct CudaHeads {
  void* data = nullptr;
  int64_t frame_stride = 0, head_stride = 0;
};

enum class CudaElement : int32_t { kBFloat16, kFloat16 };

// Rotary positions, applied to q and k as they are read: with x = [a, b] in halves, [a cos - b sin, b cos + a sin].
struct CudaRotary {
  const float* cosines = nullptr;  // (positions, head_dim / 2); null: no rotation
  const float* sines = nullptr;
  // Row of the tables for each row of q and of k; null: the row itself.
  const int32_t* query_positions = nullptr;
  const int32_t* key_positions = nullptr;
};

struct CudaAttentionArguments {
  CudaElement element = CudaElement::kBFloat16;  // of q, k, v and out
  int32_t heads = 1;
  int32_t kv_heads = 1;   // divides heads; query head h reads key head h / (heads / kv_heads)
  int32_t head_dim = 64;  // 4 to 128, a multiple of 4; of 8, and of 16 with rotary positions, is fast
  float scale = 1;
  int32_t num_queries = 0, num_keys = 0;  // rows of q and out, and of k and v
  CudaConstHeads q, k, v;
  CudaRotary rotary;
  CudaKeyLists lists;
  const float* bias = nullptr;    // (num_keys), natural logarithm; null: none
  const float* scores = nullptr;  // what CudaKeyEntry::score indexes; null: scores are ignored
  // (num_queries); those with less than the threshold get zeros, and lse = -infinity. Null: none.
  const float* query_values = nullptr;
  float query_threshold = 0;
  // Rows of queries that are in no tile are left as they are.
  CudaHeads out;
  float* lse = nullptr;  // (heads, lse_stride), of each query; null: not wanted
  int64_t lse_stride = 0;
};

// ---- Backward ----

// The lists by key: what build_transposed_lists makes, once for all layers that share the lists.
struct CudaTransposedEntry {
  int32_t tile = 0;   // of queries
  uint8_t slot = 0;   // of the key tile
  uint8_t layer = 0;  // how many earlier entries of the tile have the same row
  uint16_t first = 0, end = 0;
  uint16_t unused = 0;
  int32_t score = -1;
};
// Entries [begin, end) are those of one key tile and one tile of queries; the segment is those of one layer.
struct CudaSegment {
  int32_t tile = 0;
  int32_t begin = 0, end = 0;
  int16_t layer = 0;
  uint16_t parts = 0;  // bit p: queries 64 p to 64 p + 63 of the tile see any of the keys
};
// Keys are computed in tiles of 64 rows that are seen about equally often, so that anchors share a tile.
struct CudaTransposedLists {
  int32_t num_key_tiles = 0;
  const int32_t* row_order = nullptr;        // (num_keys): tile t holds rows row_order[64 t] to row_order[64 t + 63]
  const int32_t* segment_offsets = nullptr;  // (num_key_tiles + 1)
  const CudaSegment* segments = nullptr;
  const CudaTransposedEntry* entries = nullptr;
  // Entries of score s: score_entries[score_offsets[s]] to score_entries[score_offsets[s + 1] - 1]. Null: no scores.
  const int32_t* score_offsets = nullptr;
  const int32_t* score_entries = nullptr;
};

struct CudaTransposeArguments {
  CudaKeyLists lists;
  int32_t num_keys = 0;
  int32_t num_scores = 0;  // 0: gradients of scores are not wanted
};

// What lists that one term alone made say of themselves: for some of them there is a kernel that goes by that.
struct CudaWindow {
  CudaTerm term;
  int32_t num_utterances = 0;  // as in CudaListArguments; 0: the lists are of another kind
  const CudaUtterance* host_utterances = nullptr;
  const CudaUtterance* device_utterances = nullptr;
};

struct CudaGradientArguments {
  CudaAttentionArguments forward;  // out and lse as the forward pass wrote them
  CudaWindow window;
  CudaTransposedLists transposed;  // need not be there where takes_window() says so
  CudaConstHeads grad_out;         // of the forward type, as those below
  CudaHeads grad_q;                // rows of queries that are in no tile are left as they are
  CudaHeads grad_k, grad_v;        // every row is written; zeros where nobody looks
  float* grad_bias = nullptr;      // (kv_heads, bias_stride), every row written; null: not wanted
  int64_t bias_stride = 0;
  float* grad_scores = nullptr;  // (kv_heads, scores_stride), every score written; null: not wanted
  int64_t scores_stride = 0;
  int32_t num_scores = 0;  // as in CudaTransposeArguments
};

// ---- The library ----

struct CudaAttentionTable {
  int32_t version = kCudaAttentionVersion;
  // Bytes of device memory, aligned to 256, that hold the result and what building it needs: keep it as long as the
  // lists are used. Negative: an error as of the functions.
  int64_t (*key_lists_bytes)(const CudaListArguments& arguments);
  int (*build_key_lists)(const CudaListArguments& arguments, void* memory, CudaKeyLists* lists, void* stream);
  int64_t (*transposed_lists_bytes)(const CudaTransposeArguments& arguments);
  int (*build_transposed_lists)(const CudaTransposeArguments& arguments, void* memory, CudaTransposedLists* lists,
                                void* stream);
  int (*forward)(const CudaAttentionArguments& arguments, void* stream);
  // Whether backward goes by the window, without transposed lists.
  bool (*takes_window)(const CudaGradientArguments& arguments);
  // Bytes of device memory, aligned to 256, that backward needs while it runs.
  int64_t (*backward_bytes)(const CudaGradientArguments& arguments);
  int (*backward)(const CudaGradientArguments& arguments, void* memory, void* stream);
  // What an error means; valid for ever.
  const char* (*message)(int error);
};

using CudaAttentionTableFunction = const CudaAttentionTable* (*)();
inline constexpr const char* kCudaAttentionTable = "EarshotCudaAttention";

}  // namespace earshot

// The one symbol of the library; the table lives as long as the library.
extern "C" const earshot::CudaAttentionTable* EarshotCudaAttention();
