// A client of plain sockets, as small as it can be, so that a test can also send what no library would.
//
//   TestClient client(server.port());
//   client.Send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
//   EXPECT_EQ(client.ReadResponse().status, 200);
//
//   TestWebSocket socket(server.port(), "/v1/stream");
//   socket.SendText("{}");
//   EXPECT_EQ(socket.Read().text, ...);
//
// Everything waits at most 10 s, and then fails its test by an exception.
#pragma once

#include <string>
#include <string_view>

#include "src/audio/unique_fd.h"
#include "src/serve/json.h"

namespace earshot {

struct TestResponse {
  int status = 0;  // 0: the connection was closed instead
  std::string head, body;
};

class TestClient {
 public:
  // receive_buffer: bytes that the system keeps for a client that does not read; 0: as usual.
  explicit TestClient(int port, int receive_buffer = 0);

  void Send(std::string_view bytes);
  // As much as goes without waiting; the number of bytes.
  size_t TrySend(std::string_view bytes);
  // No more will be sent.
  void CloseHalf();
  // Exactly so many bytes; fewer at the end.
  std::string Read(size_t size);
  // All until the other side closes.
  std::string ReadToEnd();
  // Whether the other side closes within this time; what it sends before is passed over.
  bool ClosesWithin(double seconds);
  TestResponse ReadResponse();

  TestResponse Get(const std::string& path, const std::string& headers = "");

 private:
  std::string ReadLine();
  bool Fill(double seconds = 10);

  UniqueFd fd_;
  std::string buffer_;
};

// POST /v1/audio/transcriptions of this file, as one request.
std::string TranscriptionRequestBytes(const std::string& file, const std::string& fields = "",
                                      const std::string& headers = "");
std::string FormField(const std::string& name, const std::string& value);

class TestWebSocket {
 public:
  struct Message {
    std::string text;
    int close_code = 0;  // not 0: closed; 1006 without a word
    Json json() const { return Json::parse(text); }
  };

  // Throws when it is refused; see status().
  TestWebSocket(int port, const std::string& path, const std::string& headers = "", int receive_buffer = 0);
  int status() const { return response_.status; }
  const TestResponse& response() const { return response_; }

  void SendText(std::string_view text) { SendFrame(1, text); }
  void SendBinary(std::string_view bytes) { SendFrame(2, bytes); }
  void SendFrame(int opcode, std::string_view payload);
  // The next message; pongs are given as "pong PAYLOAD".
  Message Read();
  // Reads until a message of this "type", or the end.
  Message ReadUntil(const std::string& type);
  // Passes over all messages.
  int ReadCloseCode();
  TestClient& client() { return client_; }

 private:
  TestClient client_;
  TestResponse response_;
};

}  // namespace earshot
