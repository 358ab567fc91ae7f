// The learning rate over a run.
#pragma once

#include <cstdint>

#include "src/base/options.h"

namespace earshot {

enum class DecayKind { kConstant, kLinear, kCosine, kInverseSqrt };

struct ScheduleOptions {
  double peak_lr = 1e-3;
  // Steps in which the rate grows linearly from 0 to peak_lr. At most the run's own length.
  int64_t warmup_steps = 500;
  // constant; linear or cosine down to final_share at the run's last step; inverse_sqrt: peak_lr sqrt(warmup / step).
  DecayKind decay = DecayKind::kCosine;
  // The rate at the end, as a share of peak_lr.
  double final_share = 0.01;
  void Visit(OptionVisitor& v);
  void Validate() const;
};

// The rate of a step, counted from 0, of total_steps.
double LearningRate(const ScheduleOptions& options, int64_t step, int64_t total_steps);

}  // namespace earshot
