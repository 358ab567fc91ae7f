// RecognitionService of one model: a thread that steps all streams that have a chunk ready together, and threads for
// recordings.
//
//   auto service = MakeRecognitionService(model, {.name = "an4", .max_streams = 50});
//
// Destroying it ends all streams and recordings without another call of their listeners; handles may outlive it only to
// be destroyed.
#pragma once

#include <memory>
#include <string>

#include "src/base/options.h"
#include "src/decode/endpoint.h"
#include "src/decode/stream_decoder.h"
#include "src/model/asr_model.h"
#include "src/model/latency.h"
#include "src/stream/recognition_service.h"

namespace earshot {

struct ServiceOptions {
  // What clients ask for.
  std::string name = "earshot";
  std::string language = "en";
  // Of streams that name none. 0: 320 ms where the model was trained in chunks, else what its pattern takes.
  LatencyOptions latency;
  // Streams at a time; one more is refused.
  int max_streams = 100;
  // Recordings that are transcribed at a time, each on one core, and those that may wait besides.
  int recording_workers = 1;
  int max_waiting_recordings = 64;
  // Threads of the streams' network. 0: as many as torch takes.
  int threads = 0;
  DecoderOptions decoder;
  EndpointOptions endpoint;
  void Visit(OptionVisitor& v);
  // Throws Error that names the key.
  void Validate() const;
};

// Throws Error when the options do not suit the model.
std::unique_ptr<RecognitionService> MakeRecognitionService(std::shared_ptr<const AsrModel> model,
                                                           const ServiceOptions& options);

}  // namespace earshot
