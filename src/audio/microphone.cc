#include "src/audio/microphone.h"

#include <fcntl.h>
#include <portaudio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <string_view>

#include "src/audio/unique_fd.h"
#include "src/base/error.h"
#include "src/base/log.h"

namespace earshot {
namespace {

// What the system's audio libraries write to stderr goes to the log instead, while this lives.
class QuietStderr {
 public:
  QuietStderr() {
    std::fflush(stderr);
    saved_ = UniqueFd(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3));
    aside_ = UniqueFd(memfd_create("stderr", MFD_CLOEXEC));
    if (saved_.get() >= 0 && aside_.get() >= 0) dup2(aside_.get(), STDERR_FILENO);
  }
  ~QuietStderr() {
    if (saved_.get() < 0 || aside_.get() < 0) return;
    std::fflush(stderr);
    dup2(saved_.get(), STDERR_FILENO);
    std::string text(4000, '\0');
    const ssize_t size = pread(aside_.get(), text.data(), text.size(), 0);
    std::string_view rest(text.data(), static_cast<size_t>(std::max<ssize_t>(size, 0)));
    while (!rest.empty()) {
      const size_t end = std::min(rest.find('\n'), rest.size());
      if (end > 0) LogDebug("audio system: {}", rest.substr(0, end));
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  }
  QuietStderr(const QuietStderr&) = delete;
  QuietStderr& operator=(const QuietStderr&) = delete;

 private:
  UniqueFd saved_, aside_;
};

// What PortAudio says of an error; where it only passes one on, what the system below it says.
std::string Reason(PaError error) {
  if (error != paUnanticipatedHostError) return Pa_GetErrorText(error);
  const PaHostErrorInfo* host = Pa_GetLastHostErrorInfo();
  return host && host->errorText && *host->errorText ? host->errorText : Pa_GetErrorText(error);
}

void Initialize() {
  const PaError error = Pa_Initialize();
  if (error != paNoError)
    Throw("microphone: the audio system cannot be reached: {}; --log-level debug shows what it wrote", Reason(error));
}

std::vector<AudioDevice> Devices() {
  std::vector<AudioDevice> devices;
  const PaDeviceIndex standard = Pa_GetDefaultInputDevice();
  for (PaDeviceIndex i = 0; i < Pa_GetDeviceCount(); ++i) {
    const PaDeviceInfo* info = Pa_GetDeviceInfo(i);
    if (!info || info->maxInputChannels < 1) continue;
    const PaHostApiInfo* api = Pa_GetHostApiInfo(info->hostApi);
    devices.push_back({.index = i,
                       .name = info->name ? info->name : "",
                       .api = api && api->name ? api->name : "",
                       .channels = info->maxInputChannels,
                       .default_rate = info->defaultSampleRate,
                       .is_default = i == standard});
  }
  return devices;
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

std::string NamesOf(const std::vector<const AudioDevice*>& devices) {
  std::string names;
  for (const AudioDevice* device : devices)
    names += fmt::format("{}{} '{}'", names.empty() ? "" : ", ", device->index, device->name);
  return names;
}

PaStreamParameters Parameters(const AudioDevice& device, int channels, int driver_latency_ms) {
  return {.device = device.index,
          .channelCount = channels,
          .sampleFormat = paFloat32,
          .suggestedLatency = driver_latency_ms / 1e3,
          .hostApiSpecificStreamInfo = nullptr};
}

PaError Supports(const AudioDevice& device, int channels, double rate, int driver_latency_ms) {
  const PaStreamParameters parameters = Parameters(device, channels, driver_latency_ms);
  return Pa_IsFormatSupported(&parameters, nullptr, rate);
}

// The usual rates that a device has, "16000, 48000".
std::string RatesOf(const AudioDevice& device, int channels, int driver_latency_ms) {
  std::string rates;
  for (const int rate : {8000, 16000, 22050, 32000, 44100, 48000, 96000, 192000}) {
    if (Supports(device, channels, rate, driver_latency_ms) != paNoError) continue;
    rates += fmt::format("{}{}", rates.empty() ? "" : ", ", rate);
  }
  return rates;
}

}  // namespace

// On PortAudio's thread.
struct Microphone::Callbacks {
  static int Take(const void* input, void*, unsigned long frames, const PaStreamCallbackTimeInfo*,
                  PaStreamCallbackFlags flags, void* self) {
    auto* microphone = static_cast<Microphone*>(self);
    if ((flags & paInputOverflow) != 0) microphone->ring_.CountGap();
    if (input) {
      const size_t size = frames * static_cast<size_t>(microphone->channels_);
      microphone->ring_.Push({static_cast<const float*>(input), size}, microphone->channels_);
    }
    return paContinue;
  }
  static void Finished(void* self) { static_cast<Microphone*>(self)->ring_.Wake(); }
};

std::vector<AudioDevice> ListMicrophones() {
  const QuietStderr quiet;
  Initialize();
  std::vector<AudioDevice> devices = Devices();
  Pa_Terminate();
  return devices;
}

const AudioDevice& ChooseMicrophone(const std::vector<AudioDevice>& devices, const std::string& wanted) {
  if (devices.empty())
    Throw(
        "microphone: no device that records was found; is one plugged in, does its sound server run, and may this user "
        "open it (group audio)?");
  if (wanted.empty()) {
    const auto standard = std::find_if(devices.begin(), devices.end(), [](const auto& d) { return d.is_default; });
    return standard == devices.end() ? devices.front() : *standard;
  }
  int index = -1;
  const char* end = wanted.data() + wanted.size();
  const auto [rest, error] = std::from_chars(wanted.data(), end, index);
  const bool is_index = error == std::errc() && rest == end;
  std::vector<const AudioDevice*> all, same, alike;
  for (const AudioDevice& device : devices) {
    all.push_back(&device);
    if (is_index && device.index == index) return device;
    if (device.name == wanted) same.push_back(&device);
    if (Lower(device.name).find(Lower(wanted)) != std::string::npos) alike.push_back(&device);
  }
  // A name that another device's name holds is still its own.
  const std::vector<const AudioDevice*>& found = same.empty() ? alike : same;
  if (found.size() == 1) return *found.front();
  if (found.empty()) Throw("microphone '{}': there is none; expected one of {}", wanted, NamesOf(all));
  Throw("microphone '{}': {} devices are called that: {}; give an index", wanted, found.size(), NamesOf(found));
}

Microphone::Microphone(const MicrophoneOptions& options) : silence_is_loss_s_(options.silence_is_loss_s) {
  if (options.sample_rate < 0 || options.channels < 0)
    Throw("microphone: {} Hz and {} channels, expected more than 0, or 0 for the device's own", options.sample_rate,
          options.channels);
  const QuietStderr quiet;
  Initialize();
  try {
    Open(options);
  } catch (...) {
    Pa_Terminate();
    throw;
  }
}

Microphone::~Microphone() {
  const QuietStderr quiet;
  Pa_CloseStream(stream_);
  Pa_Terminate();
}

void Microphone::Open(const MicrophoneOptions& options) {
  device_ = ChooseMicrophone(Devices(), options.device);
  const int latency_ms = options.driver_latency_ms;
  const std::string where = fmt::format("microphone '{}' ({})", device_.name, device_.api);
  if (options.channels > device_.channels)
    Throw("{}: {} channels were asked for, it has {}", where, options.channels, device_.channels);

  sample_rate_ = options.sample_rate > 0 ? options.sample_rate : static_cast<int>(std::lround(device_.default_rate));
  PaError error = paInvalidChannelCount;
  for (const int channels : {1, 2, device_.channels}) {
    channels_ = options.channels > 0 ? options.channels : std::min(channels, device_.channels);
    error = Supports(device_, channels_, sample_rate_, latency_ms);
    if (error == paNoError || options.channels > 0) break;
  }
  if (error == paInvalidSampleRate) {
    const std::string rates = RatesOf(device_, channels_, latency_ms);
    Throw("{}: does not record at {} Hz; {}", where, sample_rate_,
          rates.empty() ? "nor at any usual rate" : "it does at " + rates);
  }
  const PaStreamParameters parameters = Parameters(device_, channels_, latency_ms);
  if (error == paNoError)
    error = Pa_OpenStream(&stream_, &parameters, nullptr, sample_rate_, paFramesPerBufferUnspecified, paClipOff,
                          Callbacks::Take, this);
  if (error == paNoError) error = Pa_SetStreamFinishedCallback(stream_, Callbacks::Finished);
  if (error != paNoError)
    Throw("{}: cannot be opened for {} channel{} at {} Hz: {}; does another program use it?", where, channels_,
          channels_ == 1 ? "" : "s", sample_rate_, Reason(error));
  ring_.Resize(static_cast<size_t>(std::max(1.0, options.ring_s * sample_rate_)));
}

bool Microphone::Start(int timeout_ms) {
  const QuietStderr quiet;
  const PaError error = Pa_StartStream(stream_);
  if (error != paNoError) Throw("microphone '{}': does not start: {}", device_.name, Reason(error));
  return true;
}

std::string Microphone::description() const {
  return fmt::format("'{}' ({}), {} Hz, {} channel{}", device_.name, device_.api, sample_rate_, channels_,
                     channels_ == 1 ? "" : "s");
}

size_t Microphone::Read(std::span<float> mono, int timeout_ms) {
  const size_t taken = ring_.Pop(mono, stopped_ ? 0 : timeout_ms);
  const auto now = std::chrono::steady_clock::now();
  if (taken > 0 || stopped_) {
    heard_ = now;
    return taken;
  }
  if (Pa_IsStreamActive(stream_) != 1 && ring_.empty())
    Throw("microphone '{}': recording has ended by itself; was the device unplugged, or its sound server stopped?",
          device_.name);
  if (heard_ && now - *heard_ > std::chrono::duration<double>(silence_is_loss_s_))
    Throw("microphone '{}': has sent nothing for {:g} s; was it unplugged, or its sound server stopped?", device_.name,
          silence_is_loss_s_);
  if (!heard_) heard_ = now;
  return 0;
}

void Microphone::Stop() {
  if (stopped_) return;
  const QuietStderr quiet;
  // What the driver holds still comes before this returns.
  Pa_StopStream(stream_);
  stopped_ = true;
}

}  // namespace earshot
