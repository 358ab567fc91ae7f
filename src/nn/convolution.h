// The conformer's convolution module (Gulati et al. 2020, section 2.2) with LayerNorm in place of
// batch norm: LayerNorm, pointwise, GLU, depthwise, LayerNorm, SiLU, pointwise, dropout.
//
// What the depthwise kernel of K frames may see, h = (K - 1) / 2:
//   symmetric  h frames on both sides
//   causal     K - 1 frames before
//   chunked    h frames before; after it no further than the end of its chunk (Dynamic chunk
//              convolution, Li et al. 2023): no latency beyond the chunk's own
// Beyond the ends of the utterance stand zeros.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/normalization.h>
#include <torch/types.h>

#include <memory>
#include <vector>

#include "src/base/options.h"
#include "src/nn/chunk_layout.h"
#include "src/nn/linear.h"

namespace earshot {

enum class ConvolutionKind { kSymmetric, kCausal, kChunked };

struct ConvolutionOptions {
  ConvolutionKind kind = ConvolutionKind::kChunked;
  // Encoder frames, odd.
  int kernel = 15;
  // Chunk of the chunked kind, in encoder frames; that of the local pattern.
  int chunk = 16;
  // Frames that the kernel sees before its own.
  int64_t Before() const { return kind == ConvolutionKind::kCausal ? kernel - 1 : (kernel - 1) / 2; }
  void Visit(OptionVisitor& v);
  void Validate() const;
};

struct ConvolutionState {
  torch::Tensor inputs;            // (N, t, D) of the depthwise kernel, from the first that is still needed
  std::vector<int64_t> positions;  // of the same frames
  int64_t given = 0;               // so many of them have come out
  int64_t chunk = 0;  // of this stream, see Reach::chunk_frames; -1: no frame of a step is hidden from another
};

// The next frames of one of several streams.
struct ConvolutionStep {
  // Where they are, and the position up to which all that stayed have come: chunks count positions, the kernel frames.
  std::vector<int64_t> positions;
  int64_t received = 0;
  bool final = false;
  int64_t ahead = 0;  // see BlockStep
  ConvolutionState* state = nullptr;
  int64_t completed = 0;  // an output: frames
};

class Convolution : public torch::nn::Module, public Prepackable {
 public:
  Convolution(const ConvolutionOptions& options, int64_t dim, double dropout, bool bias);

  // x: (N, T, D); mask: (N, T, 1) float, 0 behind the end of an utterance, or undefined; chunk: Reach's, or 0; layout:
  // T are its rows, or null. Returns (N, T, D), to be added to x.
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& mask, int64_t chunk = 0,
                        const ChunkLayout* layout = nullptr);

  // x: (N, t, D), the next frames, as the step says. Returns those that became complete, in order; with `final` all.
  torch::Tensor Stream(const torch::Tensor& x, const ConvolutionStep& step);

  // The same for inference, behind the norm, which the caller has computed together with what came before.
  Product Infer(const Activation& normed, const torch::Tensor& mask, int64_t chunk,
                const ChunkLayout* layout = nullptr) const;
  // normed: the next frames of several streams, one after the other. Those that became complete, in the same order.
  Product StreamInfer(const Activation& normed, std::vector<ConvolutionStep>& steps) const;
  const torch::nn::LayerNormImpl& norm() const { return *norm_; }
  torch::ScalarType input_type() const { return expand_->input_type(); }

  void Prepack(InferencePrecision precision) override;
  void train(bool on = true) override;

 private:
  // The inputs of the depthwise kernel that are there, and which of its outputs are due.
  struct Window {
    torch::Tensor inputs;          // (N, t, D)
    int64_t first = 0, count = 0;  // outputs, counted from the first input
    std::vector<int64_t> ends;     // of each output, see DepthwiseOptions
    int64_t lead = -1;             // frames of its chunk before the first input; -1: of the inputs, some have left
  };
  Window Advance(const torch::Tensor& fresh, const ConvolutionStep& step) const;
  torch::Tensor Expand(const torch::Tensor& x);  // norm, pointwise, GLU
  // (N, T, D) -> (N, T, D), zeros beyond both ends.
  torch::Tensor Depthwise(const torch::Tensor& x, int64_t chunk);
  // (N, rows, D) -> (N chunks, before + P, D): the rows of each chunk and what stands before them.
  torch::Tensor WithPast(const torch::Tensor& x, const ChunkLayout& layout) const;
  torch::Tensor Project(const torch::Tensor& x);  // norm, SiLU, pointwise, dropout
  // The outputs of a window, (N, count, D).
  torch::Tensor DepthwiseOf(const Window& window, int64_t chunk);
  // The same, norm, SiLU.
  Activation InferDepthwise(const Window& window) const;
  // What the kernel may see behind a frame ends with the chunk of this many frames; 0: it does not. given: Reach's.
  int64_t ChunkOf(int64_t given) const;

  ConvolutionOptions options_;
  double dropout_;
  torch::nn::LayerNorm norm_{nullptr}, depthwise_norm_{nullptr};
  std::shared_ptr<Linear> expand_, output_;
  torch::nn::Conv1d depthwise_{nullptr};
  torch::Tensor packed_depthwise_;  // see PackDepthwise; undefined: not packed
};

}  // namespace earshot
