#include "src/frontend/convolution.h"

#include <kissfft/kissfft.hh>

#include <algorithm>
#include <bit>
#include <complex>
#include <cstddef>

namespace earshot {

std::vector<float> Convolve(std::span<const float> a, std::span<const float> b) {
  if (a.empty() || b.empty()) return {};
  using Complex = std::complex<float>;
  // Blocks of `step` samples of a grow by b.size() - 1; with step about three times that, the FFTs are used well.
  const size_t fft_size = std::bit_ceil(std::min(4 * b.size(), a.size() + b.size() - 1));
  const size_t step = fft_size - b.size() + 1;
  const kissfft<float> forward(fft_size, false), backward(fft_size, true);

  std::vector<Complex> time(fft_size), filter(fft_size), spectrum(fft_size);
  const float scale = 1.0f / static_cast<float>(fft_size);
  for (size_t i = 0; i < b.size(); ++i) time[i] = scale * b[i];
  forward.transform(time.data(), filter.data());

  // b is real, so the real and the imaginary part of a signal are convolved side by side: two blocks at a time.
  std::vector<float> result(a.size() + b.size() - 1, 0.0f);
  for (size_t first = 0; first < a.size(); first += 2 * step) {
    const size_t second = first + step;
    std::fill(time.begin(), time.end(), Complex());
    for (size_t i = 0; i < step && first + i < a.size(); ++i)
      time[i] = Complex(a[first + i], second + i < a.size() ? a[second + i] : 0.0f);
    forward.transform(time.data(), spectrum.data());
    for (size_t i = 0; i < fft_size; ++i) spectrum[i] *= filter[i];
    backward.transform(spectrum.data(), time.data());
    for (size_t i = 0; i < fft_size && first + i < result.size(); ++i) result[first + i] += time[i].real();
    for (size_t i = 0; i < fft_size && second + i < result.size(); ++i) result[second + i] += time[i].imag();
  }
  return result;
}

}  // namespace earshot
