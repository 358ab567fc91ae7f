#include "src/audio/microphone.h"

#include <chrono>
#include <cstdlib>
#include <thread>

#include "src/base/error.h"
#include "tests/audio/audio_test_util.h"

namespace earshot {
namespace {

// A machine whose only device is a file: ALSA's own plugins play it, with neither hardware nor a sound server.
class MicrophoneTest : public AudioTest {
 protected:
  MicrophoneTest() {
    // Left and right of a constant signal; the plugin may skip of it, since its clock is nobody's.
    std::string samples;
    for (int i = 0; i < 200000; ++i) samples += std::string("\x00\x40\x00\xE0", 4);  // 0.5, -0.25
    WriteBytes(Path("samples.raw"), samples);
    UseDevices("pcm.earshot_file { type file slave.pcm { type null } file /dev/null infile \"" + Path("samples.raw") +
               "\" format raw }\n"
               "pcm.earshot_test { type plug slave { pcm earshot_file format S16_LE rate 16000 channels 2 }\n"
               "hint { show on description test } }\n"
               "pcm.default earshot_test\n");
  }

  // Before PortAudio looks for the first time, or again after it has let go.
  void UseDevices(const std::string& configuration) {
    WriteBytes(Path("alsa.conf"), configuration);
    setenv("ALSA_CONFIG_PATH", Path("alsa.conf").c_str(), 1);
  }
};

const std::vector<AudioDevice> kDevices = {{.index = 2, .name = "HDA Intel: ALC257 (hw:0,0)"},
                                           {.index = 4, .name = "USB Headset"},
                                           {.index = 5, .name = "USB Headset Pro"},
                                           {.index = 7, .name = "default", .is_default = true}};

TEST_F(MicrophoneTest, ChoosesByIndexNameAndPart) {
  EXPECT_EQ(ChooseMicrophone(kDevices, "").index, 7);
  EXPECT_EQ(ChooseMicrophone(kDevices, "4").index, 4);
  EXPECT_EQ(ChooseMicrophone(kDevices, "alc257").index, 2);
  EXPECT_EQ(ChooseMicrophone(kDevices, "headset pro").index, 5);
  // One whose name another's begins with can still be named.
  EXPECT_EQ(ChooseMicrophone(kDevices, "USB Headset").index, 4);
  EXPECT_EQ(ChooseMicrophone({kDevices[1], kDevices[2]}, "").index, 4);
}

TEST_F(MicrophoneTest, ChoiceThatIsNoneSaysWhatThereIs) {
  EXPECT_EQ(ErrorOf([] { ChooseMicrophone(kDevices, "3"); }),
            "microphone '3': there is none; expected one of 2 'HDA Intel: ALC257 (hw:0,0)', 4 'USB Headset', 5 'USB "
            "Headset Pro', 7 'default'");
  EXPECT_EQ(ErrorOf([] { ChooseMicrophone(kDevices, "usb"); }),
            "microphone 'usb': 2 devices are called that: 4 'USB Headset', 5 'USB Headset Pro'; give an index");
  EXPECT_NE(ErrorOf([] { ChooseMicrophone({}, ""); }).find("no device that records was found"), std::string::npos);
}

TEST_F(MicrophoneTest, ListsWithoutAWordOnStderr) {
  testing::internal::CaptureStderr();
  const std::vector<AudioDevice> devices = ListMicrophones();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  const AudioDevice& device = ChooseMicrophone(devices, "earshot_test");
  EXPECT_EQ(device.api, "ALSA");
  EXPECT_GE(device.channels, 2);
}

TEST_F(MicrophoneTest, RecordsTheMeanOfTheChannels) {
  Microphone microphone({.device = "earshot_test", .sample_rate = 16000, .channels = 2});
  EXPECT_EQ(microphone.sample_rate(), 16000);
  EXPECT_EQ(microphone.channels(), 2);
  EXPECT_EQ(microphone.description(), "'earshot_test' (ALSA), 16000 Hz, 2 channels");
  EXPECT_TRUE(microphone.Start(0));
  std::vector<float> block(4000), heard;
  while (heard.size() < 16000) {
    const size_t n = microphone.Read(block, 1000);
    ASSERT_GT(n, 0u);
    heard.insert(heard.end(), block.begin(), block.begin() + static_cast<std::ptrdiff_t>(n));
  }
  EXPECT_FALSE(microphone.ended());
  microphone.Stop();
  while (!microphone.ended()) {
    const size_t n = microphone.Read(block, 0);
    heard.insert(heard.end(), block.begin(), block.begin() + static_cast<std::ptrdiff_t>(n));
  }
  EXPECT_EQ(heard, std::vector<float>(heard.size(), 0.125f));
}

TEST_F(MicrophoneTest, ReaderThatIsLateLosesAudioAndIsTold) {
  Microphone microphone({.device = "earshot_test", .sample_rate = 16000, .ring_s = 0.1});
  microphone.Start(0);
  std::vector<float> block(16000);
  for (int i = 0; i < 100 && microphone.lost().frames == 0; ++i) {
    ASSERT_EQ(microphone.Read(std::span(block).first(1), 1000), 1u);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  EXPECT_GE(microphone.lost().times, 1);
  EXPECT_GT(microphone.lost().frames, 0);
  microphone.Stop();
  EXPECT_LE(microphone.Read(block, 0), 1600u);
}

TEST_F(MicrophoneTest, WhatADeviceCannotIsOneClearError) {
  EXPECT_THROW(Microphone({.sample_rate = -1}), Error);
  EXPECT_THROW(Microphone({.device = "no such device"}), Error);
  const int channels = ChooseMicrophone(ListMicrophones(), "earshot_test").channels;
  EXPECT_EQ(
      ErrorOf([&] { Microphone({.device = "earshot_test", .channels = channels + 1}); }),
      fmt::format("microphone 'earshot_test' (ALSA): {} channels were asked for, it has {}", channels + 1, channels));
  // What has failed leaves nothing behind that would be in the way.
  EXPECT_NO_THROW(Microphone({.device = "earshot_test"}));
}

TEST_F(MicrophoneTest, DeviceThatCannotBeOpenedIsNone) {
  UseDevices("pcm.earshot_test { type hw card 77 hint { show on description test } }\n");
  for (const AudioDevice& device : ListMicrophones()) EXPECT_NE(device.name, "earshot_test");
}

}  // namespace
}  // namespace earshot
