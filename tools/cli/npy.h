// NumPy's .npy files of float matrices, written row by row: numpy.load reads them.
//
//   NpyWriter npy("a.npy", 80);
//   npy.Append(frames);   // (n, 80), as often as there is something
//   npy.Finish();         // without it, no file remains
//
// Format: numpy.lib.format, version 1.0. Not thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "src/base/atomic_file.h"

namespace earshot {

class NpyWriter {
 public:
  // A matrix of `columns` columns. Throws Error when the file cannot be written.
  NpyWriter(const std::string& path, int columns);

  // values: (n, columns), row after row.
  void Append(std::span<const float> values);
  // Writes the number of rows into the header and puts the file in its place. Throws Error.
  void Finish();

 private:
  AtomicFile file_;
  int columns_;
  int64_t rows_ = 0;
};

// The 128 bytes before the values, which are little-endian floats.
std::string NpyHeader(int64_t rows, int64_t columns);

}  // namespace earshot
