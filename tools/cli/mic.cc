// earshot mic: words as they are spoken, from a microphone or a pipe.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "src/audio/microphone.h"
#include "src/audio/pcm_source.h"
#include "src/base/error.h"
#include "src/stream/service.h"
#include "tools/cli/command.h"
#include "tools/cli/live_session.h"
#include "tools/cli/model_folder.h"

namespace earshot {
namespace {

constexpr int kPipeRate = 16000;
// Of a pipe that brings audio faster than it is spoken (a file), so much waits in memory.
constexpr double kMaxQueuedS = 5;

struct MicArguments {
  ModelArguments model;
  std::string file;   // "" or "-"
  std::string input;  // device
  std::string sample_format, save;
  bool list_devices = false, partials = false, json = false;
  int rate = 0, channels = 0;  // 0: the device's own, of a pipe 16000 and 1
  LatencyOptions latency;
  double duration_s = 0;
};

void PrintDevices() {
  const std::vector<AudioDevice> devices = ListMicrophones();
  const AudioDevice& standard = ChooseMicrophone(devices, "");
  for (const AudioDevice& device : devices) {
    fmt::print("{}{:>3}  {}  ({}, {} channel{}, {:.0f} Hz)\n", &device == &standard ? '*' : ' ', device.index,
               device.name, device.api, device.channels, device.channels == 1 ? "" : "s", device.default_rate);
  }
}

// What can be told before a model is loaded.
void Check(const MicArguments& arguments) {
  const bool is_pipe = arguments.file == "-";
  if (!arguments.file.empty() && !is_pipe)
    Throw("mic: '{}' is not known, expected - for standard input; a recording is for earshot transcribe {}",
          arguments.file, arguments.file);
  if (is_pipe && !arguments.input.empty()) Throw("mic: --input names a device, and - standard input; use one of them");
  if (!is_pipe && !arguments.sample_format.empty())
    Throw("--sample-format {}: is for raw audio on standard input; add -", arguments.sample_format);
  if (is_pipe && isatty(STDIN_FILENO) == 1)
    Throw(
        "mic: standard input is a terminal, expected audio through a pipe: arecord -f S16_LE -r 16000 | earshot mic -");
  arguments.latency.Validate();
  if (!(arguments.duration_s >= 0)) Throw("--duration {}: expected seconds, more than 0", arguments.duration_s);
  if (is_pipe && !arguments.sample_format.empty()) ParsePcmFormat(arguments.sample_format);
}

std::unique_ptr<LiveSource> OpenInput(const MicArguments& arguments) {
  if (arguments.file.empty()) {
    return std::make_unique<Microphone>(
        MicrophoneOptions{.device = arguments.input, .sample_rate = arguments.rate, .channels = arguments.channels});
  }
  PcmOptions pcm;
  pcm.sample_rate = arguments.rate > 0 ? arguments.rate : kPipeRate;
  if (arguments.channels > 0) pcm.channels = arguments.channels;
  if (!arguments.sample_format.empty()) pcm.format = ParsePcmFormat(arguments.sample_format);
  return std::make_unique<PcmSource>(STDIN_FILENO, pcm);
}

void RunMic(const MicArguments& arguments) {
  if (arguments.list_devices) {
    PrintDevices();
    return;
  }
  Check(arguments);
  // A device that is not there is told before a model is loaded; it records only once that is ready to hear.
  const std::unique_ptr<LiveSource> source = OpenInput(arguments);
  ServiceOptions service_options;
  service_options.latency = arguments.latency;
  service_options.max_streams = 1;
  const std::unique_ptr<RecognitionService> service =
      MakeRecognitionService(LoadModel(arguments.model), service_options);

  LiveSessionOptions session;
  if (arguments.json) {
    session.form = LiveForm::kJson;
  } else if (isatty(STDOUT_FILENO) != 1) {
    session.form = LiveForm::kLines;
  }
  session.partials = arguments.partials;
  session.capture = {.duration_s = arguments.duration_s,
                     .save = arguments.save,
                     .max_queued_s = arguments.file.empty() ? 0 : kMaxQueuedS};
  RunLiveSession(*service, *source, session);
}

}  // namespace

void AddMic(CLI::App& app) {
  auto arguments = std::make_shared<MicArguments>();
  CLI::App* command = app.add_subcommand("mic", "Words as they are spoken, from a microphone or a pipe.");
  command->add_option("INPUT", arguments->file, "- for standard input instead of a microphone: raw PCM or WAV")
      ->type_name("");
  AddModelOptions(*command, arguments->model);
  command->add_option("--input", arguments->input, "microphone: its name, a part of it, or its number [the system's]")
      ->type_name("NAME");
  command->add_flag("--list-devices", arguments->list_devices, "the microphones there are; * is the system's");
  command->add_option("--rate", arguments->rate, "Hz to record at, or of raw PCM [the device's own; 16000]")
      ->check(CLI::Range(1, 1000000))
      ->type_name("HZ");
  command->add_option("--channels", arguments->channels, "channels to record, or of raw PCM; their mean is heard [1]")
      ->check(CLI::Range(1, 1024))
      ->type_name("N");
  command->add_option("--sample-format", arguments->sample_format, "of raw PCM: s16le or f32le [s16le]")
      ->type_name("NAME");
  AddLatencyOptions(*command, "how long a sound may wait for its word [320, where the model was trained in chunks]",
                    arguments->latency);
  command->add_option("--save", arguments->save, "a WAV file for what is heard")->type_name("FILE");
  command->add_option("--duration", arguments->duration_s, "seconds to listen [until Ctrl-C]")->type_name("S");
  command->add_flag("--partials", arguments->partials, "without a terminal: lines for words that may still change too");
  command->add_flag("--json", arguments->json, "a line of JSON for each segment, its words with times");
  command->footer(Examples({
      {"earshot mic", "what the system's microphone hears, until Ctrl-C"},
      {"earshot mic --input usb --save meeting.wav > meeting.txt", "a line for each segment, and the audio"},
      {"earshot mic --json --partials | ./my_program", "words with times, as they become known"},
      {"arecord -f S16_LE -r 16000 -c 1 | earshot mic -", "from another program"},
      {"ffmpeg -i URL -f s16le -ar 16000 -ac 1 - | earshot mic -", "a stream of the network"},
  }));
  command->callback([arguments] { RunMic(*arguments); });
}

}  // namespace earshot
