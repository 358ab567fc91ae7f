// From a source of audio to words on stdout, until it ends or the user says so: all of `earshot mic` but for the model
// and the command line.
//
//   RunLiveSession(service, microphone, {.form = LiveForm::kTerminal});
//
// The first SIGINT, SIGTERM or SIGHUP stops the recording: the last words are recognised and shown, and the call
// returns. The second ends the process at once, with status 130 and the terminal as it was. While it runs, the
// terminal does not echo what is typed. One session at a time; not thread-safe.
#pragma once

#include "src/audio/live_source.h"
#include "src/stream/recognition_service.h"
#include "tools/cli/capture.h"
#include "tools/cli/live_view.h"

namespace earshot {

struct LiveSessionOptions {
  LiveForm form = LiveForm::kTerminal;
  bool partials = false;
  CaptureOptions capture;
};

// Throws Error: the source was lost or is empty, what was heard could not be saved, or recognition failed; after the
// words that there were.
void RunLiveSession(RecognitionService& service, LiveSource& source, const LiveSessionOptions& options);

}  // namespace earshot
