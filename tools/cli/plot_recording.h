// One recording as the model sees it: panels over one time axis, from the wave to the attention map.
//
//   RecordingPlot plot;
//   plot.title = "an251-fash-b";
//   plot.samples = ReadAudio(path, {.sample_rate = plot.sample_rate});
//   ...
//   DrawRecording(plot, "plot.svg");   // or plot.png
//
// A recording of ten minutes takes about a second, and its SVG stays below a few MB: the wave is drawn as
// its envelope, and the maps are images at the resolution of the print.
#pragma once

#include <string>
#include <vector>

#include "src/decode/transcript.h"

namespace earshot {

// What is empty has no panel.
struct RecordingPlot {
  std::string title;
  // (S), in [-1, 1].
  std::vector<float> samples;
  int sample_rate = 16000;
  // (T, C) log mel energies.
  std::vector<float> spectrogram;
  int num_frames = 0, dim = 0;
  double frame_shift_s = 0.01;
  // (T') in (0, 1]: how much each encoder frame counts.
  std::vector<float> gate;
  double encoder_frame_s = 0.04;
  // (T', T') row by row: how much the frame of the row attends to that of the column; the mean over the heads
  // of one layer.
  std::vector<float> attention;
  int attention_frames = 0, attention_layer = 0;
  // Written under the wave where there is room for them; of a long recording none are.
  std::vector<Word> words;
};

// Throws Error when the path ends in neither .svg nor .png, cannot be written, or there is nothing to draw.
void DrawRecording(const RecordingPlot& plot, const std::string& path);

}  // namespace earshot
