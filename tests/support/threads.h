// Torch's threads for a part of a test: Threads threads(3);
#pragma once

#include <ATen/Parallel.h>

namespace earshot {

// Sets their number, and what it was before at the end of the block.
class Threads {
 public:
  explicit Threads(int count) : before_(at::get_num_threads()) { at::set_num_threads(count); }
  ~Threads() { at::set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

}  // namespace earshot
