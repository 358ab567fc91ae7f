// From where CTC put a word to where it is spoken.
//
//   std::vector<Word> words = AlignedWords(*AlignCtc(...), tokenizer, frame_s);
//   WidenWords(words, duration_s, 0.2);
//   TrimWords(words, samples, 16000, 0.05);
//
// CTC marks a word by a spike or a few, and a network that sees the whole recording may begin the first word with the
// recording itself: spikes are too short for the word, their beginnings and ends rough.
#pragma once

#include <span>
#include <vector>

#include "src/decode/transcript.h"

namespace earshot {

// Shares out what lies between two neighbours, up to most_s for each; before the first and behind the last as well.
void WidenWords(std::vector<Word>& words, double duration_s, double most_s);

// Takes the silence off both ends of each word, but for margin_s of it. Silent are frames of 10 ms that are 30 dB under
// the loud ones of the recording (95th percentile) or less than 6 dB above the soft ones (5th). A word that
// is silent all through stays as it is. samples: (S) of the recording.
void TrimWords(std::vector<Word>& words, std::span<const float> samples, int sample_rate, double margin_s);

}  // namespace earshot
