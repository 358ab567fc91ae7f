// The audio of utterances at one rate, decoded once where it fits into memory.
//
//   AudioCache cache(16000, 200);
//   std::vector<float> samples = cache.Read(utterance);
//
// With a cache, samples are kept in 16 bits and every Read goes through them, the first one and those that no
// longer fit too: what an utterance sounds like does not depend on when it is read. Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "src/data/manifest.h"

namespace earshot {

class AudioCache {
 public:
  // cache_mb: most memory for samples; what comes when it is full is decoded each time. 0: keeps nothing.
  AudioCache(int sample_rate, double cache_mb);

  // The samples (S) of an utterance, mono in [-1, 1]. Throws Error that names the file: missing, damaged, not a
  // number, empty, or shorter than the manifest says (by 0.1 s and 5 %), which is how a truncated file looks.
  std::vector<float> Read(const Utterance& utterance);

 private:
  std::vector<float> Decode(const Utterance& utterance) const;

  const int sample_rate_;
  const int64_t capacity_;
  std::mutex mutex_;
  int64_t used_ = 0;
  std::unordered_map<std::string, std::shared_ptr<const std::vector<int16_t>>> kept_;
};

}  // namespace earshot
