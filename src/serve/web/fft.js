// The power spectrum of real samples: a radix-2 FFT in place (Cooley and Tukey, 1965), under a Hann window.
//
//   const spectrum = new PowerSpectrum(1024);
//   const power = spectrum.of(samples);  // 1024 samples to 513 values, valid until the next call; a sine of amplitude
//                                        // 1 has 1 at its bin

export class PowerSpectrum {
  constructor(size) {
    this.size = size;
    this.window = Float32Array.from({ length: size }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / size));
    this.cosines = Float32Array.from({ length: size / 2 }, (_, i) => Math.cos((2 * Math.PI * i) / size));
    this.sines = Float32Array.from({ length: size / 2 }, (_, i) => -Math.sin((2 * Math.PI * i) / size));
    this.reversed = new Uint32Array(size);
    for (let i = 1; i < size; ++i) this.reversed[i] = (this.reversed[i >> 1] >> 1) | (i & 1 ? size >> 1 : 0);
    this.real = new Float32Array(size);
    this.imaginary = new Float32Array(size);
    this.power = new Float32Array(size / 2 + 1);
  }

  of(samples) {
    const { size, real, imaginary, power } = this;
    for (let i = 0; i < size; ++i) real[this.reversed[i]] = samples[i] * this.window[i];
    imaginary.fill(0);
    for (let half = 1; half < size; half *= 2) this.#butterflies(half);
    // The window's mean is 1/2, and half of a sine's amplitude lies in the negative frequencies.
    const scale = (4 / size) ** 2;
    for (let i = 0; i <= size / 2; ++i) power[i] = scale * (real[i] ** 2 + imaginary[i] ** 2);
    return power;
  }

  #butterflies(half) {
    const { size, real, imaginary, cosines, sines } = this;
    const step = size / (2 * half);
    for (let begin = 0; begin < size; begin += 2 * half) {
      for (let k = 0; k < half; ++k) {
        const a = begin + k;
        const b = a + half;
        const re = real[b] * cosines[k * step] - imaginary[b] * sines[k * step];
        const im = real[b] * sines[k * step] + imaginary[b] * cosines[k * step];
        real[b] = real[a] - re;
        imaginary[b] = imaginary[a] - im;
        real[a] += re;
        imaginary[a] += im;
      }
    }
  }
}
