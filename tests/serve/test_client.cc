#include "tests/serve/test_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>

#include "src/base/error.h"

namespace earshot {

TestClient::TestClient(int port, int receive_buffer) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  if (receive_buffer > 0) setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0)
    Throw("no connection to port {}: {}", port, std::strerror(errno));
}

void TestClient::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    pollfd poll_fd{fd_.get(), POLLOUT, 0};
    if (poll(&poll_fd, 1, 10000) <= 0) Throw("nothing could be sent for 10 s");
    const ssize_t n = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n < 0) Throw("sending failed: {}", std::strerror(errno));
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

size_t TestClient::TrySend(std::string_view bytes) {
  const ssize_t n = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  return n < 0 ? 0 : static_cast<size_t>(n);
}

void TestClient::CloseHalf() { shutdown(fd_.get(), SHUT_WR); }

bool TestClient::Fill(double seconds) {
  pollfd poll_fd{fd_.get(), POLLIN, 0};
  if (poll(&poll_fd, 1, static_cast<int>(seconds * 1000)) <= 0) Throw("nothing came for {} s", seconds);
  std::array<char, 65536> bytes;
  const ssize_t n = recv(fd_.get(), bytes.data(), bytes.size(), 0);
  if (n > 0) buffer_.append(bytes.data(), static_cast<size_t>(n));
  return n > 0;
}

std::string TestClient::Read(size_t size) {
  while (buffer_.size() < size && Fill()) {
  }
  const std::string bytes = buffer_.substr(0, size);
  buffer_.erase(0, size);
  return bytes;
}

std::string TestClient::ReadToEnd() {
  while (Fill()) {
  }
  return std::exchange(buffer_, "");
}

bool TestClient::ClosesWithin(double seconds) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  try {
    for (;;) {
      const double left = std::chrono::duration<double>(until - std::chrono::steady_clock::now()).count();
      if (left <= 0) return false;
      if (!Fill(left)) return true;
      buffer_.clear();
    }
  } catch (const Error&) {
    return false;
  }
}

std::string TestClient::ReadLine() {
  size_t end;
  while ((end = buffer_.find("\r\n")) == std::string::npos && Fill()) {
  }
  return end == std::string::npos ? Read(buffer_.size()) : Read(end + 2);
}

TestResponse TestClient::ReadResponse() {
  TestResponse response;
  while (!response.head.ends_with("\r\n\r\n")) {
    const std::string line = ReadLine();
    if (line.empty()) return {};
    response.head += line;
  }
  response.status = std::stoi(response.head.substr(9, 3));
  std::string lower = response.head;
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const size_t length = lower.find("\r\ncontent-length: ");
  if (length != std::string::npos) {
    response.body = Read(std::stoul(lower.substr(length + 18)));
  } else if (lower.find("\r\ntransfer-encoding: chunked") != std::string::npos) {
    for (size_t size = 1; size > 0;) {
      size = std::stoul(ReadLine(), nullptr, 16);
      response.body += Read(size);
      ReadLine();
    }
  }
  return response;
}

TestResponse TestClient::Get(const std::string& path, const std::string& headers) {
  Send("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n" + headers + "\r\n");
  return ReadResponse();
}

std::string FormField(const std::string& name, const std::string& value) {
  return "--XX\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n";
}

std::string TranscriptionRequestBytes(const std::string& file, const std::string& fields, const std::string& headers) {
  const std::string body = fields +
                           "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n" + file +
                           "\r\n--XX--\r\n";
  return fmt::format(
      "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; "
      "boundary=XX\r\nContent-Length: {}\r\n{}\r\n{}",
      body.size(), headers, body);
}

TestWebSocket::TestWebSocket(int port, const std::string& path, const std::string& headers, int receive_buffer)
    : client_(port, receive_buffer) {
  client_.Send("GET " + path +
               " HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
               "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
               headers + "\r\n");
  response_ = client_.ReadResponse();
}

// RFC 6455, section 5.2; the mask is all zeros.
void TestWebSocket::SendFrame(int opcode, std::string_view payload) {
  std::string frame(1, static_cast<char>(0x80 | opcode));
  if (payload.size() < 126) {
    frame += static_cast<char>(0x80 | payload.size());
  } else {
    const bool is_long = payload.size() > 0xffff;
    frame += static_cast<char>(0x80 | (is_long ? 127 : 126));
    for (int shift = is_long ? 56 : 8; shift >= 0; shift -= 8) frame += static_cast<char>(payload.size() >> shift);
  }
  frame.append(4, '\0');
  frame += payload;
  client_.Send(frame);
}

TestWebSocket::Message TestWebSocket::Read() {
  const std::string head = client_.Read(2);
  if (head.size() < 2) return {.close_code = 1006};
  const int opcode = head[0] & 0x0f;
  size_t size = head[1] & 0x7f;
  if (size >= 126) {
    const std::string bytes = client_.Read(size == 126 ? 2 : 8);
    size = 0;
    for (const char byte : bytes) size = size << 8 | static_cast<unsigned char>(byte);
  }
  const std::string payload = client_.Read(size);
  if (opcode == 10) return {.text = "pong " + payload};
  if (opcode != 8) return {.text = payload};
  const int code =
      payload.size() < 2 ? 1005 : static_cast<unsigned char>(payload[0]) << 8 | static_cast<unsigned char>(payload[1]);
  SendFrame(8, payload);  // the other half of the goodbye
  client_.CloseHalf();
  return {.text = payload.size() > 2 ? payload.substr(2) : "", .close_code = code};
}

TestWebSocket::Message TestWebSocket::ReadUntil(const std::string& type) {
  for (;;) {
    Message message = Read();
    if (message.close_code != 0) return message;
    if (message.text.find("\"type\":\"" + type + "\"") != std::string::npos) return message;
  }
}

int TestWebSocket::ReadCloseCode() {
  for (;;) {
    const Message message = Read();
    if (message.close_code != 0) return message.close_code;
  }
}

}  // namespace earshot
