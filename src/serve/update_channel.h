// From the service's threads to a connection's own: what a listener is told is handed on, and after Close nothing is.
//
//   UpdateChannel<StreamUpdate> channel(gate.To(executor), [this](StreamUpdate update) { ... });
//   stream_ = service.OpenStream(options, channel.Listener());
//
// The listener may outlive the channel, and the connection, and what runs the connection: it holds none of them. The
// channel is closed by its owner's thread, on which receive is called too.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <utility>

#include "src/serve/work_gate.h"

namespace earshot {

template <class Update>
class UpdateChannel {
 public:
  UpdateChannel(WorkGate::Post post, std::function<void(Update)> receive)
      : ends_(std::make_shared<Ends>(std::move(post), std::move(receive))) {}
  ~UpdateChannel() { Close(); }
  UpdateChannel(const UpdateChannel&) = delete;
  UpdateChannel& operator=(const UpdateChannel&) = delete;

  std::function<void(Update)> Listener() const {
    return [ends = ends_](Update update) {
      const std::lock_guard lock(ends->mutex);
      if (!ends->post) return;
      ends->post([ends, update = std::move(update)]() mutable { Deliver(*ends, std::move(update)); });
    };
  }

  void Close() {
    const std::lock_guard lock(ends_->mutex);
    ends_->post = nullptr;
    ends_->receive = nullptr;
  }

 private:
  struct Ends {
    Ends(WorkGate::Post p, std::function<void(Update)> r) : post(std::move(p)), receive(std::move(r)) {}
    std::mutex mutex;
    WorkGate::Post post;
    std::function<void(Update)> receive;
  };

  static void Deliver(Ends& ends, Update update) {
    std::function<void(Update)> receive;
    {
      const std::lock_guard lock(ends.mutex);
      receive = ends.receive;
    }
    if (receive) receive(std::move(update));
  }

  std::shared_ptr<Ends> ends_;
};

}  // namespace earshot
