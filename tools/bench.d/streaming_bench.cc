// Paced real-time streams against a server, over /v1/stream: what tools/bench streaming runs.
//
//   streaming_bench PORT RECORDING STREAMS SECONDS LATENCY_MS
//
// Each stream sends the recording's first SECONDS as a microphone would, 40 ms at a time, and begins at a time of its
// own. Prints one JSON object: how long behind the sending of a sample its recognition was told (of every update), how
// long behind the end of the input the last words came, and each text that was heard, with how often.
#include <algorithm>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/websocket.hpp>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "src/audio/audio_reader.h"
#include "src/base/random.h"

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace websocket = beast::websocket;
using asio::use_awaitable;
using Clock = std::chrono::steady_clock;
using Socket = websocket::stream<beast::tcp_stream>;

constexpr int kRate = 16000;
constexpr size_t kMessageSamples = kRate / 25;

struct Load {
  unsigned short port = 0;
  int latency_ms = 0;
  std::vector<int16_t> samples;
  // Results.
  std::vector<double> update_lags_s, final_lags_s;
  std::map<std::string, int> texts;
  int failed = 0;
};

double Seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

struct Stream {
  explicit Stream(asio::io_context& io) : socket(io) {}
  Socket socket;
  Clock::time_point begin, end;  // of the sending
  bool finished = false;         // the last words came
};

asio::awaitable<void> Read(Stream& stream, Load& load) {
  std::string text;
  while (true) {
    beast::flat_buffer buffer;
    co_await stream.socket.async_read(buffer, use_awaitable);
    const auto message = nlohmann::json::parse(beast::buffers_to_string(buffer.data()));
    if (message.at("type") == "error") throw std::runtime_error(message.at("message").get<std::string>());
    if (message.at("type") != "update") continue;
    for (const auto& segment : message.at("finals"))
      text += (text.empty() ? "" : " ") + segment.at("text").get<std::string>();
    const Clock::time_point now = Clock::now();
    if (message.at("finished").get<bool>()) {
      load.final_lags_s.push_back(Seconds(now - stream.end));
      ++load.texts[text];
      stream.finished = true;
      co_return;
    }
    const double recognized_s = message.at("recognized").get<double>();
    if (recognized_s > 0) load.update_lags_s.push_back(Seconds(now - stream.begin) - recognized_s);
  }
}

asio::awaitable<void> Send(Stream& stream, const Load& load) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  stream.begin = Clock::now();
  for (size_t at = 0; at < load.samples.size(); at += kMessageSamples) {
    const size_t count = std::min(kMessageSamples, load.samples.size() - at);
    // A sample can be sent once it is spoken.
    timer.expires_at(stream.begin + std::chrono::microseconds((at + count) * 1000000 / kRate));
    co_await timer.async_wait(use_awaitable);
    co_await stream.socket.async_write(asio::buffer(load.samples.data() + at, count * 2), use_awaitable);
  }
  stream.socket.text(true);
  stream.end = Clock::now();
  co_await stream.socket.async_write(asio::buffer(std::string(R"({"type":"end"})")), use_awaitable);
}

asio::awaitable<void> Run(asio::io_context& io, Load& load, double wait_s) {
  Stream stream(io);
  try {
    asio::steady_timer timer(io, std::chrono::microseconds(std::llround(wait_s * 1e6)));
    co_await timer.async_wait(use_awaitable);
    co_await beast::get_lowest_layer(stream.socket)
        .async_connect({asio::ip::address_v4::loopback(), load.port}, use_awaitable);
    beast::get_lowest_layer(stream.socket).expires_never();
    co_await stream.socket.async_handshake("127.0.0.1", "/v1/stream", use_awaitable);
    const nlohmann::json config = {
        {"type", "config"}, {"sample_rate", kRate}, {"latency_ms", load.latency_ms}, {"format", "s16le"}};
    co_await stream.socket.async_write(asio::buffer(config.dump()), use_awaitable);
    stream.socket.binary(true);
    asio::co_spawn(
        io,
        [&]() -> asio::awaitable<void> {
          try {
            co_await Send(stream, load);
          } catch (const std::exception&) {
            // The reader tells why.
          }
        },
        asio::detached);
    co_await Read(stream, load);
    co_await stream.socket.async_close(websocket::close_code::normal, use_awaitable);
  } catch (const std::exception& e) {
    // Behind the last words only the closing can fail.
    if (!stream.finished) {
      ++load.failed;
      std::fprintf(stderr, "a stream failed: %s\n", e.what());
    }
  }
  // The sender may still hold the stream.
  asio::steady_timer timer(io, std::chrono::milliseconds(100));
  co_await timer.async_wait(use_awaitable);
}

nlohmann::json Quantiles(std::vector<double> values) {
  if (values.empty()) return nullptr;
  std::sort(values.begin(), values.end());
  const auto at = [&](double q) {
    return values[std::min(values.size() - 1, static_cast<size_t>(q * static_cast<double>(values.size())))];
  };
  double sum = 0;
  for (const double v : values) sum += v;
  return {{"mean", sum / static_cast<double>(values.size())},
          {"p50", at(0.5)},
          {"p95", at(0.95)},
          {"p99", at(0.99)},
          {"max", values.back()},
          {"count", values.size()}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fprintf(stderr, "streaming_bench PORT RECORDING STREAMS SECONDS LATENCY_MS\n");
    return 1;
  }
  Load load;
  load.port = static_cast<unsigned short>(std::stoi(argv[1]));
  const int streams = std::stoi(argv[3]);
  const double seconds = std::stod(argv[4]);
  load.latency_ms = std::stoi(argv[5]);
  for (const float sample : earshot::ReadAudio(argv[2], {.sample_rate = kRate, .duration_s = seconds}))
    load.samples.push_back(static_cast<int16_t>(std::lround(std::clamp(sample, -1.0f, 1.0f) * 32767)));
  asio::io_context io(1);
  earshot::Random random(1);
  for (int i = 0; i < streams; ++i) asio::co_spawn(io, Run(io, load, random.Uniform(0, 1)), asio::detached);
  io.run();
  nlohmann::json texts = nlohmann::json::array();
  for (const auto& [text, count] : load.texts) texts.push_back({{"text", text}, {"count", count}});
  const nlohmann::json result = {{"streams", streams},
                                 {"failed", load.failed},
                                 {"update_lag_s", Quantiles(load.update_lags_s)},
                                 {"final_lag_s", Quantiles(load.final_lags_s)},
                                 {"texts", texts}};
  std::printf("%s\n", result.dump().c_str());
  return load.failed == 0 ? 0 : 1;
}
