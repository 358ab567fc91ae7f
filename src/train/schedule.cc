#include "src/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "src/base/error.h"

namespace earshot {

void ScheduleOptions::Visit(OptionVisitor& v) {
  v.Field("peak_lr", peak_lr);
  v.Field("warmup_steps", warmup_steps);
  v.Enum("decay", decay,
         {{"constant", DecayKind::kConstant},
          {"linear", DecayKind::kLinear},
          {"cosine", DecayKind::kCosine},
          {"inverse_sqrt", DecayKind::kInverseSqrt}});
  v.Field("final_share", final_share);
}

void ScheduleOptions::Validate() const {
  if (!(peak_lr > 0)) Throw("train.schedule.peak_lr is {}, expected more than 0", peak_lr);
  if (warmup_steps < 0) Throw("train.schedule.warmup_steps is {}, expected 0 or more", warmup_steps);
  if (!(final_share >= 0 && final_share <= 1))
    Throw("train.schedule.final_share is {}, expected between 0 and 1", final_share);
}

double LearningRate(const ScheduleOptions& o, int64_t step, int64_t total_steps) {
  const int64_t warmup = std::min(o.warmup_steps, total_steps);
  if (step < warmup) return o.peak_lr * static_cast<double>(step + 1) / static_cast<double>(warmup);
  const double done =
      total_steps <= warmup
          ? 1.0
          : std::min(1.0, static_cast<double>(step - warmup) / static_cast<double>(total_steps - warmup));
  switch (o.decay) {
    case DecayKind::kConstant: return o.peak_lr;
    case DecayKind::kLinear: return o.peak_lr * (1 - (1 - o.final_share) * done);
    case DecayKind::kCosine:
      return o.peak_lr * (o.final_share + (1 - o.final_share) * 0.5 * (1 + std::cos(std::numbers::pi * done)));
    case DecayKind::kInverseSqrt:
      return o.peak_lr * std::sqrt(static_cast<double>(std::max<int64_t>(warmup, 1)) / static_cast<double>(step + 1));
  }
  return o.peak_lr;
}

}  // namespace earshot
